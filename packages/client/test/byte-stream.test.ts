import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { test } from "node:test";
import { exchangeBytes } from "../src/byte-stream.ts";

test("a body that is refused in the middle, and that may have no end, is sent no further; why is heard", { timeout: 30_000 }, async () => {
  const asked: (string | undefined)[] = [];
  // As a daemon: it answers at once, and closes when it was asked to, with much of the body unread.
  const server = createServer((request, response) => {
    asked.push(request.headers.connection);
    request.once("data", () => {
      request.pause();
      response.writeHead(400, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: "invalid_request", message: "it does not begin like one" }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const endpoint = { url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), token: "t" };
    const body = new Readable({ read: () => void body.push(Buffer.alloc(64 * 1024)) });
    const closed = once(body, "close");
    await assert.rejects(exchangeBytes(endpoint, "POST", "/v1/storage/import", { body, silenceMs: 20_000 }), {
      code: "invalid_request",
      message: "it does not begin like one",
    });
    await closed;
    assert.deepEqual(asked, ["keep-alive"], "else the reset would overtake the answer now and then");
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});
