import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { REQUEST_ID_HEADER, STARTING_HEADER } from "@hob/protocol";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import { pino } from "pino";
import type { Endpoint } from "../src/api/endpoint.ts";
import { SeenRequests } from "../src/api/seen-requests.ts";
import { createApiServer } from "../src/api/server.ts";

const TOKEN = "t".repeat(32);

/** Resolves when what makes the endless answer of `GET /lines` has ended. */
let linesEnded = Promise.withResolvers<void>();

interface Answer {
  status: number;
  body: string;
  /** whether it was answered because it came too early */
  starting: boolean;
  /** whether the body was asked for */
  continued: boolean;
}

/** A server with one family of routes, which counts what reached it. */
async function withServer(
  body: (port: number, effects: () => number) => Promise<void>,
  isUp = () => true,
  seenFile?: string,
): Promise<void> {
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
  const server = createApiServer({
    hostRoutes: new Hono(),
    endpoints: [upgrades],
    token: () => TOKEN,
    isUp,
    log,
    ...(seenFile === undefined ? {} : { seenFile }),
  });
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
  let continued = false;
  outgoing.once("continue", () => {
    continued = true;
  });
  outgoing.end();
  const [response] = await once(outgoing, "response");
  const starting = response.headers[STARTING_HEADER] !== undefined;
  return { status: response.statusCode, body: (await response.toArray()).join(""), starting, continued };
}

describe("the pilot's port", () => {
  test("before the sprite is up, its own API says so, and what is sent again then counts", () => {
    let up = false;
    return withServer(
      async (port, effects) => {
        const path = "/v1/sprites/one/touch";
        for (const upgrade of [{}, { connection: "Upgrade", upgrade: "websocket" }] as Record<string, string>[]) {
          const { status, body, starting } = await ask(port, path, { ...upgrade, [REQUEST_ID_HEADER]: "early" });
          assert.deepEqual([status, JSON.parse(body).error, starting, effects()], [503, "container_stopped", true, 0]);
        }
        const { status, continued } = await ask(port, path, { expect: "100-continue", [REQUEST_ID_HEADER]: "early" });
        assert.deepEqual([status, continued], [503, false]);
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

  test("asks for a body when it has taken the request", () =>
    withServer(async (port, effects) => {
      const headers = { expect: "100-continue", [REQUEST_ID_HEADER]: "a" };
      const [first, again] = [await ask(port, "/v1/sprites/one/touch", headers), await ask(port, "/v1/sprites/one/touch", headers)];
      assert.deepEqual([first.status, first.continued, again.status, again.continued, effects()], [200, true, 409, false, 1]);
      assert.deepEqual([first.starting, again.starting], [false, false]);
    }));

  test("a pilot that is started again knows what the one before has taken, but for what has no effect", async (context) => {
    const folder = mkdtempSync(join(tmpdir(), "hob-seen-"));
    context.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "seen");
    const path = "/v1/sprites/one/touch";
    const upgrade = { connection: "Upgrade", upgrade: "websocket" };
    const statuses = async (...names: string[]) => {
      const found: number[] = [];
      const each = async (port: number) => {
        for (const name of names) {
          found.push((await ask(port, path, { ...(name.startsWith("u") ? upgrade : {}), [REQUEST_ID_HEADER]: name })).status);
        }
      };
      await withServer(each, () => true, file);
      return found;
    };
    assert.deepEqual(await statuses("a", "u"), [200, 400]);
    assert.deepEqual(await statuses("u", "b", "a"), [409, 200, 409]);
    assert.deepEqual(await statuses("b"), [409]);
    // More than one file holds: the newest are known.
    const many = Array.from({ length: 1_100 }, (_, i) => `many-${i}`);
    const seen = new SeenRequests(file);
    const take = (id: string, method = "POST") =>
      seen.takeOnce({ headers: { [REQUEST_ID_HEADER]: id }, method, url: "/exec?env=SECRET" } as never);
    for (const id of many) take(id);
    take("harmless", "GET");
    assert.throws(() => take("harmless", "GET"), {
      message: "GET /exec: it has reached the sprite, and the connection was lost before the answer",
    });
    assert.ok(readFileSync(file).length < 20_000);
    assert.deepEqual(await statuses("many-0", "many-1099", "harmless"), [409, 409, 200]);
  });

  test("reads nothing without the host's token, and knows its routes", () =>
    withServer(async (port, effects) => {
      assert.equal((await ask(port, "/v1/sprites/one/touch", { authorization: "Bearer x" })).status, 401);
      assert.equal((await ask(port, "/v1/sprites/one/nowhere")).status, 404);
      assert.equal((await ask(port, "/v1/sprites/one/nowhere", { connection: "Upgrade", upgrade: "websocket" })).status, 404);
      assert.equal(effects(), 0);
    }));
});
