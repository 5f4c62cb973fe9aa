import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { after, before, describe, test } from "node:test";
import { RELAY } from "@hob/protocol";
import { acquire, listAll, type ObjectStore } from "@hob/storage";
import { sha256 } from "@hob/storage/format/hash.ts";
import { openStore } from "@hob/storage/store/open-store.ts";
import { pino } from "pino";
import { SpriteStorage } from "../src/object-store/sprite-storage.ts";

const PACK = Buffer.from("a pack");
const HEAD = "orgs/org/sprites/s1/head.json";
const PACK_KEY = `orgs/org/packs/${sha256(PACK)}`;

/** What stands where a reader's pilot does: it gets connections on which it may ask. */
class Pilot {
  readonly dialled: Duplex[] = [];
  readonly #first = Promise.withResolvers<void>();
  readonly server = createServer().on("upgrade", (incoming, socket) => {
    assert.deepEqual([incoming.headers.authorization, incoming.headers[RELAY.startHeader]], ["Bearer token", "start"]);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${RELAY.upgrade}\r\n\r\n`);
    this.dialled.push(socket.on("error", () => {}));
    this.#first.resolve();
  });

  async ask(method: string, path: string, headers: Record<string, string> = {}, body = ""): Promise<{ status: number; body: string }> {
    await this.#first.promise;
    const socket = this.dialled[0] ?? assert.fail();
    return await new Promise((resolve, reject) => {
      const outgoing = request({
        method,
        path,
        headers: { ...headers, host: "relay", connection: "keep-alive" },
        createConnection: () => socket,
      });
      outgoing.once("error", reject).once("response", async (response) => {
        const chunks = await response.toArray();
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
      });
      outgoing.end(body);
    });
  }
}

describe("what a reader may ask of the store", () => {
  const folder = mkdtempSync(join(tmpdir(), "hobd-relay-"));
  const pilot = new Pilot();
  let store: ObjectStore;
  let shown: Disposable;
  before(async () => {
    store = await openStore(`dir:${folder}`, {});
    for (const sprite of ["s1", "s2"]) await acquire({ store, org: "org", sprite, owner: "host", initial: { volumeBytes: 65_536 } });
    await store.put(PACK_KEY, PACK);
    await new Promise<void>((resolve) => pilot.server.listen(0, "127.0.0.1", resolve));
    const { port } = pilot.server.address() as AddressInfo;
    const storage = new SpriteStorage({ store, organization: "org", owner: "host", log: pino({ level: "silent" }) });
    shown = storage.show("s1", "start", () => ({ host: "127.0.0.1", port, token: "token" }));
  });
  after(() => {
    shown[Symbol.dispose]();
    for (const socket of pilot.dialled) socket.destroy();
    pilot.server.close();
    rmSync(folder, { recursive: true });
  });

  test("it reads its sprite's documents, and packs by their names", async () => {
    const head = await pilot.ask("GET", `/objects/${HEAD}`);
    assert.deepEqual([head.status, JSON.parse(head.body).sprite], [200, "s1"]);
    assert.deepEqual(await pilot.ask("GET", `/objects/${PACK_KEY}`, { range: "bytes=2-5" }), { status: 206, body: "pack" });
    assert.equal((await pilot.ask("GET", "/list?prefix=orgs/org/sprites/s1/")).status, 200);
    for (const path of ["/objects/orgs/org/sprites/s2/head.json", "/list?prefix=orgs/org/packs/", "/list?prefix=orgs/org/sprites/s2/"])
      assert.equal((await pilot.ask("GET", path)).status, 400, path);
  });

  test("it changes nothing, not even what the sprite itself may", async () => {
    const before = await contentOf(store);
    const { etag } = (await store.head(HEAD)) ?? assert.fail();
    const text = Buffer.from((await store.get(HEAD))?.data ?? assert.fail()).toString();
    const other = Buffer.from("another pack");
    const writes = [
      ["PUT", HEAD, { "if-match": etag }, text.replace('"storedBlocks":0', '"storedBlocks":1')],
      ["PUT", HEAD, {}, text],
      ["PUT", `orgs/org/packs/${sha256(other)}`, {}, other.toString()],
      ["PUT", PACK_KEY, {}, PACK.toString()],
      ["PUT", "orgs/org/sprites/s1/checkpoints/v1.0123456789abcdef.json", {}, "{}"],
      ["DELETE", "orgs/org/sprites/s1/checkpoints/v1.0123456789abcdef.json", {}, ""],
      ["DELETE", HEAD, {}, ""],
      ["DELETE", PACK_KEY, {}, ""],
    ] as const;
    for (const [method, key, headers, body] of writes) {
      const answer = await pilot.ask(method, `/objects/${key}`, { ...headers, "content-length": String(Buffer.byteLength(body)) }, body);
      assert.deepEqual([answer.status, JSON.parse(answer.body).error], [400, "invalid_request"], `${method} ${key}`);
    }
    assert.deepEqual(await contentOf(store), before);
  });
});

async function contentOf(store: ObjectStore): Promise<[string, string][]> {
  const all: [string, string][] = [];
  for await (const { key } of listAll(store, "")) all.push([key, sha256((await store.get(key))?.data ?? Buffer.alloc(0))]);
  return all;
}
