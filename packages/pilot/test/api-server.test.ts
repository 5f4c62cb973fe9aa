import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { REQUEST_ID_HEADER } from "@hob/protocol";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import { pino } from "pino";
import type { Endpoint } from "../src/api/endpoint.ts";
import { createApiServer } from "../src/api/server.ts";

const TOKEN = "t".repeat(32);

/** Resolves when what makes the endless answer of `GET /lines` has ended. */
let linesEnded = Promise.withResolvers<void>();

interface Answer {
  status: number;
  body: string;
}

/** A server with one family of routes, which counts what reached it. */
async function withServer(body: (port: number, effects: () => number) => Promise<void>, isUp = () => true): Promise<void> {
  let effects = 0;
  const routes = new Hono()
    .post("/touch", (c) => c.json({ effects: ++effects }))
    .get("/lines", (c) =>
      stream(c, async (out) => {
        while (!out.aborted) await out.write("line\n");
        linesEnded.resolve();
      }),
    );
  const upgrades: Endpoint = {
    routes,
    upgrade: (incoming, socket) => {
      if (incoming.url !== "/v1/sprites/one/touch") return false;
      effects++;
      socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return true;
    },
  };
  const log = pino({ level: "silent" });
  const server = createApiServer({ hostRoutes: new Hono(), endpoints: [upgrades], token: () => TOKEN, isUp, log });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await body((server.address() as AddressInfo).port, () => effects);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

async function ask(port: number, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  const method = headers.upgrade === undefined ? "POST" : "GET";
  const outgoing = request({
    host: "127.0.0.1",
    port,
    path,
    method,
    agent: false,
    headers: { authorization: `Bearer ${TOKEN}`, ...headers },
  });
  outgoing.end();
  const [response] = await once(outgoing, "response");
  return { status: response.statusCode, body: (await response.toArray()).join("") };
}

describe("the pilot's port", () => {
  test("before the sprite is up, its own API says so, and what is sent again then counts", () => {
    let up = false;
    return withServer(
      async (port, effects) => {
        const path = "/v1/sprites/one/touch";
        for (const upgrade of [{}, { connection: "Upgrade", upgrade: "websocket" }] as Record<string, string>[]) {
          const { status, body } = await ask(port, path, { ...upgrade, [REQUEST_ID_HEADER]: "early" });
          assert.deepEqual([status, JSON.parse(body).error, effects()], [503, "container_stopped", 0]);
        }
        assert.equal((await ask(port, "/hob/ready")).status, 404, "the host's own routes answer");
        up = true;
        assert.equal((await ask(port, path, { [REQUEST_ID_HEADER]: "early" })).status, 200);
        assert.equal(effects(), 1);
      },
      () => up,
    );
  });

  test("takes a request that the host had to send twice once", () =>
    withServer(async (port, effects) => {
      const headers = { [REQUEST_ID_HEADER]: "a" };
      assert.equal((await ask(port, "/v1/sprites/one/touch", headers)).status, 200);
      const again = await ask(port, "/v1/sprites/one/touch", headers);
      assert.deepEqual([again.status, JSON.parse(again.body).error, effects()], [409, "conflict", 1]);
      assert.equal((await ask(port, "/v1/sprites/one/touch", { [REQUEST_ID_HEADER]: "b" })).status, 200);
      await ask(port, "/v1/sprites/one/touch");
      assert.equal(effects(), 3);
    }));

  test("takes an upgrade that the host had to send twice once", () =>
    withServer(async (port, effects) => {
      const headers = { [REQUEST_ID_HEADER]: "a", connection: "Upgrade", upgrade: "websocket" };
      assert.equal((await ask(port, "/v1/sprites/one/touch", headers)).status, 400);
      assert.equal((await ask(port, "/v1/sprites/one/touch", headers)).status, 409);
      assert.equal(effects(), 1);
    }));

  test("a stream whose head alone is asked for ends, and so does one whose reader has gone", () =>
    withServer(async (port) => {
      for (const method of ["HEAD", "GET"]) {
        linesEnded = Promise.withResolvers();
        const headers = { authorization: `Bearer ${TOKEN}` };
        const outgoing = request({ host: "127.0.0.1", port, path: "/v1/sprites/one/lines", method, agent: false, headers }).end();
        const [response] = await once(outgoing, "response");
        assert.equal(response.statusCode, 200);
        response.destroy();
        const deadline = AbortSignal.timeout(10_000);
        const late = once(deadline, "abort").then(() => assert.fail(`${method}: it goes on`));
        await Promise.race([linesEnded.promise, late]);
      }
    }));

  test("reads nothing without the host's token, and knows its routes", () =>
    withServer(async (port, effects) => {
      assert.equal((await ask(port, "/v1/sprites/one/touch", { authorization: "Bearer x" })).status, 401);
      assert.equal((await ask(port, "/v1/sprites/one/nowhere")).status, 404);
      assert.equal((await ask(port, "/v1/sprites/one/nowhere", { connection: "Upgrade", upgrade: "websocket" })).status, 404);
      assert.equal(effects(), 0);
    }));
});
