import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BLOCK_BYTES } from "../src/format/limits.ts";
import { writeSprite } from "../src/heads.ts";
import { exportSprite } from "../src/maintenance/export.ts";
import { RecordWriter } from "../src/maintenance/export-records.ts";
import { fsck } from "../src/maintenance/fsck.ts";
import { importSprite } from "../src/maintenance/import.ts";
import type { MapRoot } from "../src/map/chunk-ref.ts";
import { acquire } from "../src/ownership/acquire.ts";
import type { Ownership } from "../src/ownership/ownership.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import type { ObjectStore } from "../src/store/object-store.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { applyTo, changesOf, differences, type Model } from "./support/blocks.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const BLOCKS = Array.from({ length: 60 }, (_, block) => block);

interface History {
  store: MemoryStore;
  owned: Ownership;
  models: Map<string | null, Model>;
}

/** v1 → v2, back to v1 → v3, newest state above v3. */
async function history(): Promise<History> {
  const store = new MemoryStore();
  const owned = await acquire({
    store,
    org: "org",
    sprite: "s1",
    owner: "host",
    initial: { volumeBytes: 100 * BLOCK_BYTES, lastAutomatic: 12, attributes: { a: "b" } },
  });
  const models = new Map<string | null, Model>();
  const uploader = new Uploader({ store, org: "org" });
  let state: { root: MapRoot; model: Model } = { root: null, model: new Map() };
  const write = async (changes: [number, number][]): Promise<void> => {
    const { root, storedBlocks } = await uploader.upload(state.root, changesOf(changes));
    state = { root, model: applyTo(state.model, changes) };
    await owned.publish({ root, storedBlocks });
  };
  const checkpoint = async (id: string): Promise<void> => {
    const { root, storedBlocks } = owned.head;
    await owned.addCheckpoint(
      { id, comment: `is ${id}`, createdAt: "2026-01-02T03:04:05Z", root, storedBlocks, automatic: id === "v2" },
      { parent: id },
    );
    models.set(id, state.model);
  };
  await write(BLOCKS.slice(0, 30).map((block) => [block, block + 1]));
  await checkpoint("v1");
  const first = state;
  await write([
    [0, 0],
    [1, 0],
    [40, 77],
  ]);
  await checkpoint("v2");
  state = first;
  await owned.publish({ root: first.root, storedBlocks: 30, parent: "v1" });
  await write([[2, 55]]);
  await checkpoint("v3");
  await write([[59, 58]]);
  models.set(null, state.model);
  await writeSprite(store, {
    format: "hob-sprite",
    version: 1,
    id: "s1",
    name: "web",
    organization: "org",
    machineId: "0".repeat(32),
    labels: [],
    createdAt: "2026-01-02T03:04:05Z",
    machine: { cpus: 2, ramMb: 1024, storageGb: 100 },
    environment: {},
    settings: {},
  });
  return { store, owned, models };
}

async function exported(store: ObjectStore): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of exportSprite({ store, org: "org", sprite: "s1" })) parts.push(part);
  return Buffer.concat(parts);
}

async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const importInto = (store: ObjectStore, bytes: Buffer, piece = 10_000) =>
  importSprite({ store, org: "other", sprite: "s2", owner: "host-2", source: inPieces(bytes, piece) });

describe("an export", () => {
  it("is imported elsewhere with its whole history", async () => {
    const { store, owned, models } = await history();
    const bytes = await exported(store);
    const target = new MemoryStore();
    const { ownership, description } = await importInto(target, bytes);
    assert.equal(description?.name, "web");
    assert.equal(ownership.epoch, 1);
    assert.equal(ownership.head.volumeBytes, 100 * BLOCK_BYTES);
    assert.equal(ownership.head.parent, "v3");
    assert.equal(ownership.head.lastCheckpoint, 3);
    assert.equal(ownership.head.lastAutomatic, 12, "of one that is gone");
    assert.deepEqual(ownership.head.attributes, { a: "b" });
    for (const [id, model] of models) {
      const root = id === null ? ownership.head.root : (await ownership.readCheckpoint(id)).root;
      assert.deepEqual(await differences(new BlockReader({ store: target, org: "other", root }), model, BLOCKS), [], String(id));
      if (id === null) continue;
      const [before, after] = [await owned.readCheckpoint(id), await ownership.readCheckpoint(id)];
      assert.deepEqual({ ...after, origin: undefined }, { ...before, origin: undefined, sprite: "s2", root });
      assert.deepEqual(after.origin, { sprite: "s1", checkpoint: id });
    }
    assert.deepEqual((await fsck({ store: target, org: "other" })).damage, []);
    await assert.rejects(importInto(target, bytes), rejectsWith("conflict"));
  });

  it("tells each state against its parent, so that nothing is in it twice", async () => {
    const { store } = await history();
    const stored = [...store.objects].filter(([key]) => key.includes("/packs/")).reduce((sum, [, { data }]) => sum + data.length, 0);
    assert.ok((await exported(store)).length < stored * 1.05 + 20_000);
  });

  it("may come in pieces of any size", async () => {
    const { store } = await history();
    const bytes = await exported(store);
    for (const piece of [7, 1_000_000_000]) await importInto(new MemoryStore(), bytes, piece);
  });

  it("makes no sprite when it is cut short, damaged or continued", async () => {
    const { store } = await history();
    const bytes = await exported(store);
    const cuts = [0, 5, 8, 20, Math.floor(bytes.length / 2), bytes.length - 40, bytes.length - 1];
    const flips = [0, 7, 9, 10, 100, 3000, Math.floor(bytes.length / 3), bytes.length - 200, bytes.length - 3];
    const wrong = [
      ...cuts.map((at) => bytes.subarray(0, at)),
      ...flips.map((at) => {
        const copy = Buffer.from(bytes);
        copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
        return copy;
      }),
      Buffer.concat([bytes, Buffer.from("x")]),
    ];
    for (const [number, one] of wrong.entries()) {
      const target = new MemoryStore();
      await assert.rejects(
        importInto(target, one),
        (error) => rejectsWith("invalid_request")(error) || rejectsWith("store_unsupported")(error),
        `${number}`,
      );
      assert.equal(await target.head("orgs/other/sprites/s2/head.json"), undefined, `${number}`);
    }
  });

  it("is refused when it claims what it does not hold", async () => {
    const out = new RecordWriter();
    const huge = Buffer.concat([out.magic(), Buffer.from([3, 0xff, 0xff, 0xff, 0xff])]);
    await assert.rejects(importInto(new MemoryStore(), huge), /claims 4294967295 bytes/);
    await assert.rejects(importInto(new MemoryStore(), Buffer.from("HOBEXPT9........")), rejectsWith("store_unsupported"));
  });

  it("is refused when its head contradicts its checkpoints", async () => {
    for (const change of [{ volumeBytes: 64 * 65_536 }, { lastCheckpoint: 0 }]) {
      const { store } = await history();
      const [key = ""] = [...store.objects.keys()].filter((one) => one.endsWith("/head.json"));
      const head = JSON.parse((await store.get(key))?.data.toString() ?? "");
      await store.put(key, Buffer.from(JSON.stringify({ ...head, ...change })));
      const target = new MemoryStore();
      await assert.rejects(importInto(target, await exported(store)), rejectsWith("invalid_request"), JSON.stringify(change));
      assert.equal(await target.head("orgs/other/sprites/s2/head.json"), undefined);
    }
  });

  it("ends with an error when the store is damaged", async () => {
    const { store } = await history();
    const key = [...store.objects.keys()].find((one) => one.includes("/packs/")) ?? "";
    store.objects.get(key)?.data.fill(0, 30, 200);
    await assert.rejects(exported(store), rejectsWith("data_damaged"));
    await assert.rejects(exported(new MemoryStore()), rejectsWith("not_found"));
  });
});
