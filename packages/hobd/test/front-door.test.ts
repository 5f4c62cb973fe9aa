import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect, createServer } from "node:net";
import { describe, test } from "node:test";
import { SPRITE_VERSION } from "@hob/protocol";
import { bodyOf, TestDaemon, until } from "./support/test-daemon.ts";

const PATH = "/v1/sprites/one";

async function withSprite(body: (hob: TestDaemon) => Promise<void>, pilotPort?: () => number): Promise<void> {
  const upstreamTimes = { patienceMs: 200 };
  await using hob = await TestDaemon.start({}, pilotPort === undefined ? {} : { pilotPort }, { upstreamTimes });
  assert.equal((await hob.create("one")).status, 201);
  await body(hob);
}

describe("requests", () => {
  test("reach the pilot as they were sent, with the host's token, and the answer comes back whole", () =>
    withSprite(async (hob) => {
      const response = await hob.fetch(`${PATH}/a%2Fb/echo?cmd=a+b&cmd=%20&x=../y`, { method: "GET", headers: { "X-Mine": "ü" } });
      const { method, url, headers } = await bodyOf(response);
      assert.deepEqual([response.status, method, url], [200, "GET", `${PATH}/a%2Fb/echo?cmd=a+b&cmd=%20&x=../y`]);
      assert.equal(headers.authorization, `Bearer ${[...hob.runtime.tokens.values()][0]}`);
      assert.equal(headers.host, `127.0.0.1:${hob.pilot.port}`);
      assert.equal(headers["x-mine"], "ü");
      assert.equal(response.headers.get("x-pilot"), "one, two");
      assert.equal(response.headers.get("sprite-version"), SPRITE_VERSION);
    }));

  test("every method passes, HEAD without a body", () =>
    withSprite(async (hob) => {
      for (const method of ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
        const response = await hob.fetch(`${PATH}/echo`, { method });
        assert.equal(response.status, 200, method);
        assert.equal(hob.pilot.seen.at(-1)?.method, method);
        assert.equal((await response.text()).length > 0, method !== "HEAD");
      }
    }));

  test("headers of one connection do not pass, nor can a client strip the length of its body", () =>
    withSprite(async (hob) => {
      const response = await rawRequest(hob, `${PATH}/sink`, {
        method: "POST",
        headers: { Connection: "close, x-private, content-length", "X-Private": "1", TE: "trailers", "Content-Length": "5" },
        body: "hello",
      });
      assert.equal(JSON.parse(response).bytes, 5);
      const { headers } = hob.pilot.seen.at(-1) ?? assert.fail();
      assert.deepEqual([headers["x-private"], headers.te, headers["content-length"]], [undefined, undefined, "5"]);
    }));

  test("a body of unknown length streams through unchanged", () =>
    withSprite(async (hob) => {
      const bytes = randomBytes(20 * 1024 * 1024);
      const response = await hob.fetch(`${PATH}/sink`, { method: "PUT", body: new Blob([bytes]).stream(), duplex: "half" } as RequestInit);
      const { createHash } = await import("node:crypto");
      assert.deepEqual(await bodyOf(response), { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });
    }));

  test("the headers come before the body, and both directions flow at once", () =>
    withSprite(async (hob) => {
      const silent = await hob.fetch(`${PATH}/silent`);
      assert.equal(silent.headers.get("content-type"), "application/x-ndjson");
      await silent.body?.cancel();
      const outgoing = httpRequest(`${hob.url}${PATH}/ticks`, { method: "POST", headers: hob.headers });
      outgoing.write("1");
      const answer = await new Promise<IncomingMessage>((resolve) => outgoing.once("response", resolve));
      const next = () => new Promise<string>((resolve) => answer.once("data", (chunk) => resolve(String(chunk))));
      assert.equal(await next(), "got 1\n");
      outgoing.write("2");
      assert.equal(await next(), "got 2\n");
      outgoing.end();
      await new Promise((resolve) => answer.once("end", resolve).resume());
    }));

  test("chunks stay apart: one frame of the pilot is one chunk at the client", () =>
    withSprite(async (hob) => {
      const text = await new Promise<string>((resolve) => {
        let all = "";
        const socket = connect(Number(new URL(hob.url).port), "127.0.0.1");
        socket.write(`POST ${PATH}/frames HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${hob.token}\r\n\r\n`);
        socket.on("data", (chunk) => (all += chunk)).on("close", () => resolve(all));
      });
      assert.equal(text.split("\r\n\r\n").slice(1).join("\r\n\r\n"), "4\r\n\x01one\r\n4\r\n\x02two\r\n2\r\n\x03\x00\r\n0\r\n\r\n");
    }));

  test("a target of 200 KiB passes: commands and environment travel in it", () =>
    withSprite(async (hob) => {
      const response = await hob.fetch(`${PATH}/echo?env=${"x".repeat(200 * 1024)}`);
      assert.equal((await bodyOf(response)).url.length > 200 * 1024, true);
    }));

  test("an answer that the pilot gives without reading the body arrives", () =>
    withSprite(async (hob) => {
      const response = await rawRequest(hob, `${PATH}/early`, { method: "POST", body: Buffer.alloc(30 * 1024 * 1024) });
      assert.equal(response, '{"error":"too large"}');
    }));
});

describe("when a side goes away", () => {
  test("a client that leaves takes its request to the pilot with it", () =>
    withSprite(async (hob) => {
      const gone = new AbortController();
      const response = await hob.fetch(`${PATH}/silent`, { signal: gone.signal });
      assert.equal(hob.pilot.connectionCount, 1);
      gone.abort();
      await until("the pilot's connection is closed", () => hob.pilot.connectionCount === 0);
      await response.body?.cancel().catch(() => {});
      const unanswered = httpRequest(`${hob.url}${PATH}/mute`, { headers: hob.headers }).on("error", () => {});
      unanswered.end();
      await until("the request is at the pilot", () => hob.pilot.seen.at(-1)?.url === `${PATH}/mute`);
      unanswered.destroy();
      await until("the pilot's connection is closed", () => hob.pilot.connectionCount === 0);
      const upload = httpRequest(`${hob.url}${PATH}/clog`, { method: "POST", headers: hob.headers }).on("error", () => {});
      upload.write("x");
      await until("the upload is at the pilot", () => hob.pilot.readBytes > 0);
      upload.destroy();
      await until("the pilot's connection is closed", () => hob.pilot.connectionCount === 0);
    }));

  test("a pilot that dies in the middle of an answer breaks the answer, so that no client takes it for whole", () =>
    withSprite(async (hob) => {
      const response = await hob.fetch(`${PATH}/half`);
      await assert.rejects(response.text());
      const streaming = await hob.fetch(`${PATH}/silent`);
      hob.pilot.cut();
      await assert.rejects(streaming.text());
    }));

  test("a lost request is sent again, under the same name if it may have an effect; one with a body never", () =>
    withSprite(async (hob) => {
      assert.equal(await (await hob.fetch(`${PATH}/shy`)).text(), "second try");
      assert.equal(hob.pilot.seen.length, 2);
      hob.pilot.seen.length = 0;
      assert.equal(await (await hob.fetch(`${PATH}/shy`, { method: "POST", headers: { "Hob-Request-Id": "mine" } })).text(), "second try");
      const [first, second] = hob.pilot.seen.map(({ headers }) => headers["hob-request-id"]);
      assert.match(String(first), /^[0-9a-f-]{36}$/);
      assert.equal(second, first);
      hob.pilot.seen.length = 0;
      const response = await hob.fetch(`${PATH}/shy`, { method: "POST", body: "x" });
      assert.deepEqual([response.status, (await bodyOf(response)).error], [502, "outcome_unknown"]);
      assert.equal(hob.pilot.seen.length, 1);
    }));

  test("a pilot that has left every connection that was kept is asked on a new one", () =>
    withSprite(async (hob) => {
      const fill = () => hob.fetch(`${PATH}/together`).then((response) => response.text());
      assert.deepEqual(await Promise.all([fill(), fill(), fill(), fill()]), Array(4).fill("all here"));
      assert.equal(await (await hob.fetch(`${PATH}/fresh`)).text(), "on a connection of its own");
    }));

  test("when nothing listens, the runtime is asked for a while, then it is a 502 with a hint", async () => {
    let port = await freePort();
    let hob: TestDaemon | undefined;
    await withSprite(
      async (daemon) => {
        hob = daemon;
        for (const init of [{}, { method: "POST", body: "x" }]) {
          daemon.runtime.calls.length = 0;
          const response = await daemon.fetch(`${PATH}/echo`, init);
          const body = await bodyOf(response);
          assert.deepEqual([response.status, body.error, typeof body.hint], [502, "pilot_unreachable", "string"]);
          assert.ok(daemon.runtime.calls.length > 2);
          assert.deepEqual(new Set(daemon.runtime.calls), new Set(["endpoint one"]));
        }
        // The second answer of the runtime is another place: a POST may be repeated when it was never connected.
        daemon.runtime.calls.length = 0;
        const dead = port;
        Object.defineProperty(daemon.runtime.calls, "push", {
          value(...calls: string[]) {
            port = daemon.runtime.calls.length === 0 ? dead : daemon.pilot.port;
            return Array.prototype.push.apply(this, calls);
          },
        });
        const response = await daemon.fetch(`${PATH}/sink`, { method: "POST", body: "hello" });
        assert.equal((await bodyOf(response)).bytes, 5);
      },
      () => port,
    );
    assert(hob);
  });

  test("a pilot that rejects the host's token is the host's fault, not the client's", () =>
    withSprite(async (hob) => {
      hob.pilot.acceptedToken = "another";
      const response = await hob.fetch(`${PATH}/echo`);
      assert.deepEqual([response.status, (await bodyOf(response)).error], [502, "pilot_unreachable"]);
    }));
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A request with headers that fetch does not let through; the answer's body. */
function rawRequest(
  hob: TestDaemon,
  path: string,
  init: { method: string; headers?: Record<string, string>; body: string | Buffer },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(`${hob.url}${path}`, { method: init.method, headers: { ...hob.headers, ...init.headers }, agent: false });
    outgoing.once("response", (response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk)).on("end", () => resolve(body));
      response.on("error", reject);
    });
    outgoing.on("error", reject).end(init.body);
  });
}
