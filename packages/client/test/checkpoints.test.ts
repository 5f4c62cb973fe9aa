import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { HobClient } from "@hob/client";
import { HobError } from "@hob/protocol";
import { errorBody, TEST_TOKEN, TestDaemon } from "./support/test-daemon.ts";

let daemon: TestDaemon;
const checkpoints = () => new HobClient({ url: daemon.url, token: TEST_TOKEN }).checkpoints("web");
const code = (expected: string) => (error: unknown) => error instanceof HobError && error.code === expected;
const answer = (...lines: unknown[]) => {
  daemon.faults.answer = {
    status: 200,
    body: lines.map((line) => (typeof line === "string" ? line : `${JSON.stringify(line)}\n`)).join(""),
  };
};

before(async () => {
  daemon = await TestDaemon.start();
});
after(() => daemon.close());
beforeEach(() => {
  daemon.faults = {};
  daemon.requests.length = 0;
});

test("create gives progress and the last line", async () => {
  answer({ type: "info", data: "Creating checkpoint...", time: "" }, { type: "complete", id: "v3", pauseMs: 4.5, time: "" });
  const seen: (string | undefined)[] = [];
  const { id } = await (await checkpoints()).create("why", ({ data }) => seen.push(data));
  assert.deepEqual([id, seen], ["v3", ["Creating checkpoint..."]]);
  const [request] = daemon.requests;
  assert.deepEqual([request?.method, request?.url.pathname, request?.body], ["POST", "/v1/sprites/web/checkpoint", '{"comment":"why"}']);
});

test("restore and undo have no body; the last line may lack its line break", async () => {
  answer('{"type":"complete","id":"v1","undoId":"auto-2"}');
  assert.equal((await (await checkpoints()).restore("v1")).undoId, "auto-2");
  await (await checkpoints()).undo();
  assert.deepEqual(
    daemon.requests.map(({ url, body }) => [url.pathname, body]),
    [
      ["/v1/sprites/web/checkpoints/v1/restore", ""],
      ["/v1/sprites/web/restore/undo", ""],
    ],
  );
});

test("an error in the stream keeps its code and hint", async () => {
  answer({ type: "info", data: "x" }, { type: "error", error: "no room", code: "no_space", hint: "delete some" });
  await assert.rejects((await checkpoints()).create(undefined), (error) => {
    assert.ok(error instanceof HobError);
    assert.deepEqual([error.code, error.message, error.hint], ["no_space", "no room", "delete some"]);
    return true;
  });
  answer({ type: "error", error: "odd", code: "of the future" });
  await assert.rejects((await checkpoints()).create(undefined), code("internal"));
});

test("a stream that ends early, or is none, is no success", async () => {
  answer({ type: "info", data: "x" });
  await assert.rejects((await checkpoints()).create(undefined), code("connection_lost"));
  answer("<html>\n");
  await assert.rejects((await checkpoints()).create(undefined), code("bad_answer"));
  daemon.faults.answer = { status: 404, body: errorBody("not_found", "checkpoint not found: v9") };
  await assert.rejects((await checkpoints()).restore("v9"), code("not_found"));
  await assert.rejects((await checkpoints()).delete("v9"), code("not_found"));
  answer("{}");
  await assert.rejects((await checkpoints()).list(), code("bad_answer"));
});

test("a connection that breaks in the middle is said to be lost", async () => {
  const server = createServer((_request, response: ServerResponse) => {
    response.writeHead(200).write('{"type":"info"}\n');
    setImmediate(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const client = await new HobClient({ url: `http://127.0.0.1:${port}`, token: TEST_TOKEN }).checkpoints("web");
  await assert.rejects(client.create(undefined), code("connection_lost"));
  await new Promise((resolve) => server.close(resolve));
});

test("list passes its filters on", async () => {
  daemon.faults.answer = { status: 200, body: "[]" };
  await (await checkpoints()).list({ includeAuto: true, history: "v2" });
  assert.equal(daemon.requests[0]?.url.search, "?includeAuto=true&history=v2");
});
