import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { HobError } from "@hob/protocol";
import { acquire, exportSprite } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { pino } from "pino";
import { MemoryStore } from "../../storage/test/support/memory-store.ts";
import type { Env } from "../src/api/routes.ts";
import { SpriteEvents } from "../src/api/sprite-context.ts";
import { answerWithStream } from "../src/api/stream-answer.ts";
import { bodyOf, TestDaemon, until } from "./support/test-daemon.ts";

const LIMIT = { timeout: 60_000 };
const WATCH = { Accept: "application/x-ndjson" };
const ERROR_LEVEL = 50;

type Source = (gone: AbortSignal) => AsyncGenerator<string>;

/** A server with one stream, and the levels of what it logs. */
async function serve(t: TestContext, source: Source, waitsForFirst = false): Promise<{ url: string; levels: number[] }> {
  const levels: number[] = [];
  const log = pino({ level: "trace" }, { write: (line: string) => void levels.push(JSON.parse(line).level) });
  const app = new Hono<Env>();
  app.get("/", (c) => answerWithStream(c, source, { contentType: "text/x-test", waitsForFirst, log }));
  app.onError((error, c) => c.json((error as HobError).toBody(), (error as HobError).status as 500));
  const server = createServer(getRequestListener(app.fetch, { overrideGlobalObjects: false }));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, levels };
}

test("a stream ends with its source; HEAD does not begin it", LIMIT, async (t) => {
  for (const waitsForFirst of [true, false]) {
    let begun = 0;
    const source: Source = async function* () {
      begun++;
      yield "one ";
      yield "two";
    };
    const { url } = await serve(t, source, waitsForFirst);
    const head = await fetch(url, { method: "HEAD" });
    assert.deepEqual([head.status, head.headers.get("content-type"), begun], [200, "text/x-test", 0]);
    assert.deepEqual([await (await fetch(url)).text(), begun], ["one two", 1]);
  }
});

test("a client that leaves ends the source, wherever that is, and nothing is said of it", LIMIT, async (t) => {
  for (const waits of [true, false]) {
    let ended = 0;
    const { url, levels } = await serve(t, async function* (gone) {
      try {
        yield "begun";
        // As a store does, or as a watch.
        if (waits) await once(gone, "abort").then(() => gone.throwIfAborted());
        for (;;) yield "x".repeat(100_000);
      } finally {
        ended++;
      }
    });
    const left = new AbortController();
    const response = await fetch(url, { signal: left.signal });
    await response.body?.getReader().read();
    left.abort();
    await until("the source has ended", () => ended === 1);
    assert.ok(levels.every((level) => level < ERROR_LEVEL));
  }
});

test("a source that fails is cut, and that is logged; before its first piece it is an error like any other", LIMIT, async (t) => {
  const failing: Source = async function* () {
    yield "half";
    throw new HobError("store_failed", "as the test asked");
  };
  const { url, levels } = await serve(t, failing);
  await assert.rejects(fetch(url).then((response) => response.text()));
  assert.deepEqual(levels, [ERROR_LEVEL]);
  const broken: Source = async function* () {
    yield await Promise.reject(new HobError("data_damaged", "as the test asked"));
  };
  const early = await serve(t, broken, true);
  const response = await fetch(early.url);
  assert.deepEqual([response.status, (await bodyOf(response)).error], [500, "data_damaged"]);
});

/** A daemon with a sprite that the store has. */
async function withSprite(body: (hob: TestDaemon) => Promise<void>): Promise<void> {
  await using hob = await TestDaemon.start();
  const { id } = await bodyOf(await hob.create("web"));
  const store = await DirectoryStore.open(join(hob.home, "store"));
  await acquire({ store, org: "hob", sprite: id, owner: "test", create: true, initial: { volumeBytes: 10 * 1024 ** 3 } });
  await body(hob);
}

test("HEAD of every stream of the host has its headers, and leaves nothing behind", LIMIT, (t) =>
  withSprite(async (hob) => {
    const subscribe = t.mock.method(SpriteEvents.prototype, "subscribe");
    const list = await hob.fetch("/v1/sprites", { method: "HEAD", headers: WATCH });
    assert.deepEqual([list.status, list.headers.get("content-type")], [200, "application/x-ndjson"]);
    assert.equal(subscribe.mock.callCount(), 0);
    const file = await hob.fetch("/v1/sprites/web/export", { method: "HEAD" });
    assert.deepEqual([file.status, file.headers.get("content-type")], [200, "application/vnd.hob.export"]);
  }),
);

test("a client that leaves is no error of the daemon's: nothing is logged but that it has left", LIMIT, () =>
  withSprite(async (hob) => {
    const release = Promise.withResolvers<void>();
    let syncs = 0;
    hob.pilot.onSync = () => {
      syncs++;
      return release.promise;
    };
    const requests: [string, RequestInit & { json?: unknown }][] = [
      ["/v1/sprites/web/export", {}],
      ["/v1/sprites/web/fork", { method: "POST", json: { name: "copy" } }],
    ];
    for (const [index, [path, init]] of requests.entries()) {
      const left = new AbortController();
      const answer = hob.fetch(path, { ...init, signal: left.signal });
      await until("the sprite is being brought into the store", () => syncs === index + 1);
      left.abort();
      await assert.rejects(answer);
    }
    await leaveImport(hob);
    const left = () => logOf(hob).then((lines) => lines.filter(({ msg }) => /the client has gone/.test(msg)));
    await until("all three are said to have left", async () => (await left()).length >= 4);
    release.resolve();
    assert.deepEqual(
      (await logOf(hob)).filter(({ level, err }) => level >= ERROR_LEVEL || err !== undefined),
      [],
    );
    assert.equal((await hob.fetch("/v1/sprites/copy")).status, 404);
  }),
);

/** Begins to send a file, and leaves in the middle of it. */
async function leaveImport(hob: TestDaemon): Promise<void> {
  const store = new MemoryStore();
  await acquire({ store, org: "hob", sprite: "sprite-x", owner: "x", create: true, initial: { volumeBytes: 10 * 1024 ** 3 } });
  const parts: Buffer[] = [];
  for await (const part of exportSprite({ store, org: "hob", sprite: "sprite-x" })) parts.push(part);
  const headers = { ...hob.headers, Expect: "100-continue" };
  const upload = httpRequest(`${hob.url}/v1/storage/import?name=copy`, { method: "POST", headers }).on("error", () => {});
  upload.flushHeaders();
  await once(upload, "continue");
  await new Promise((resolve) => upload.write(Buffer.concat(parts).subarray(0, -10), resolve));
  upload.destroy();
}

const logOf = async (hob: TestDaemon): Promise<{ level: number; msg: string; err?: unknown }[]> =>
  (await readFile(join(hob.home, "hobd.log"), "utf8"))
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
