import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, beforeEach, describe, test } from "node:test";
import { HobClient } from "@hob/client";
import { HobError } from "@hob/protocol";
import { errorBody, TEST_TOKEN, TestDaemon } from "./support/test-daemon.ts";

let daemon: TestDaemon;
let client: HobClient;

before(async () => {
  daemon = await TestDaemon.start();
});
after(() => daemon.close());
beforeEach(() => {
  daemon.sprites.clear();
  daemon.requests.length = 0;
  daemon.faults = {};
  client = new HobClient({ url: daemon.url, token: TEST_TOKEN });
});

const hobError = (code: string, message?: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof HobError, String(thrown));
  assert.equal(thrown.code, code);
  if (message !== undefined) assert.match(thrown.message, message);
  return true;
};

describe("sprites", () => {
  test("create sends the request, get and update read the sprite back, delete removes it", async () => {
    const made = await client.create({ name: "one", config: { cpus: 3 }, labels: ["a"], environment: { K: "v" } });
    assert.equal(made.name, "one");
    assert.deepEqual(JSON.parse(daemon.requests[0]?.body ?? ""), {
      name: "one",
      config: { cpus: 3 },
      labels: ["a"],
      environment: { K: "v" },
    });
    assert.equal((await client.get("one")).id, made.id);
    assert.deepEqual((await client.update("one", { labels: ["b"] })).labels, ["b"]);
    assert.equal((await client.check("one")).sprite_id, made.id);
    assert.equal((await client.bounce("one")).totalMs, 412.5);
    await client.delete("one");
    await assert.rejects(client.get("one"), hobError("not_found", /no sprite one/));
  });

  test("list walks all pages, and only as far as it is asked", async () => {
    for (let index = 0; index < 7; index++) daemon.add(`s${index}`);
    daemon.add("other");
    const names: string[] = [];
    for await (const sprite of client.list({ prefix: "s", pageSize: 3 })) names.push(sprite.name);
    assert.deepEqual(names, ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]);
    assert.equal(daemon.requests.length, 3);
    for await (const _sprite of client.list({ pageSize: 3 })) break;
    assert.equal(daemon.requests.length, 4);
  });

  test("a server that repeats a page does not hold the client for ever", async () => {
    daemon.faults.answer = { status: 200, body: JSON.stringify({ sprites: [], has_more: true, next_continuation_token: "same" }) };
    await assert.rejects(
      async () => {
        for await (const _ of client.list());
      },
      hobError("bad_answer", /repeats/),
    );
  });

  test("a name cannot lead to another path", async () => {
    await assert.rejects(client.get(".."), hobError("invalid_name"));
    await assert.rejects(client.get("a/../../x"), hobError("not_found"));
    assert.equal(daemon.requests.at(-1)?.url.pathname, "/v1/sprites/a%2F..%2F..%2Fx");
  });
});

describe("errors", () => {
  test("code, message, hint and details of the server are kept", async () => {
    daemon.faults.answer = {
      status: 429,
      body: JSON.stringify({ error: "concurrent_sprite_limit_exceeded", message: "full", hint: "wait", retry_after_seconds: 3 }),
    };
    await assert.rejects(client.create({ name: "x" }), (thrown: unknown) => {
      assert.ok(thrown instanceof HobError);
      assert.deepEqual(
        [thrown.code, thrown.message, thrown.hint, thrown.details.retry_after_seconds],
        ["concurrent_sprite_limit_exceeded", "full", "wait", 3],
      );
      return true;
    });
  });

  test("a body that is not Hob's is turned into what its status means", async () => {
    const cases: [number, string, string, RegExp][] = [
      [404, "plain words\nmore", "not_found", /^plain words$/],
      [502, "<html>Bad gateway</html>", "pilot_unreachable", /status 502/],
      [401, "", "unauthorized", /status 401/],
      [418, "null", "internal", /status 418/],
      [400, errorBody("code_of_the_future", "news"), "invalid_request", /^news$/],
    ];
    for (const [status, body, code, message] of cases) {
      daemon.faults.answer = { status, body };
      await assert.rejects(client.get("x"), hobError(code, message));
    }
  });

  test("an answer that is no JSON, or no list, is reported as such", async () => {
    daemon.faults.answer = { status: 200, body: "hello" };
    await assert.rejects(client.get("x"), hobError("bad_answer", /not JSON/));
    daemon.faults.answer = { status: 200, body: "null" };
    await assert.rejects(client.listPage(), hobError("bad_answer", /no list/));
  });

  test("nobody listens: cannot_connect, and how to start the daemon", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    const lonely = new HobClient({ url: `http://127.0.0.1:${port}`, token: "t" });
    for (const call of [() => lonely.get("x"), () => lonely.exec("x", { command: ["true"] })]) {
      await assert.rejects(
        call(),
        (thrown: unknown) => hobError("cannot_connect")(thrown) && (thrown as HobError).hint === "start it with 'hob serve'",
      );
    }
  });

  test("a connection that breaks before the answer: what changes something may have been done all the same", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.resetAndDestroy());
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const hob = new HobClient({ url: `http://127.0.0.1:${port}` });
    await assert.rejects(hob.get("x"), { code: "connection_lost", hint: "try again" });
    await assert.rejects(hob.bounce("x"), {
      code: "connection_lost",
      hint: "it may have been done all the same: look before you try again",
    });
    server.close();
  });

  test("a connection that breaks in the middle of an answer is not an answer", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"name":"x"'));
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    await assert.rejects(new HobClient({ url: `http://127.0.0.1:${port}` }).get("x"), hobError("connection_lost"));
    server.close();
  });

  test("every wait is bounded", async () => {
    daemon.faults.silent = true;
    const start = performance.now();
    await assert.rejects(client.listPage({ timeoutMs: 150 }), hobError("timeout"));
    assert.ok(performance.now() - start < 2000);
  });

  test("a malformed URL or token is refused before anything is sent", () => {
    assert.throws(() => new HobClient({ url: "nonsense" }), hobError("invalid_config"));
    assert.throws(() => new HobClient({ url: "ftp://x" }), hobError("invalid_config"));
    assert.throws(() => new HobClient({ url: daemon.url, token: "a\r\nb" }), hobError("invalid_config"));
    assert.throws(() => new HobClient({ url: daemon.url, token: "" }), hobError("invalid_config"));
  });
});
