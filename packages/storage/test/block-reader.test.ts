import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BLOCK_BYTES } from "../src/format/limits.ts";
import type { MapRoot } from "../src/map/chunk-ref.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { planRuns } from "../src/read/runs.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { blockOf, changesOf, fakeRef } from "./support/blocks.ts";
import { FaultyStore } from "./support/faulty-store.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const ORG = "org";

async function volume(
  count: number,
  seed = (block: number) => block + 1,
): Promise<{ memory: MemoryStore; store: FaultyStore; root: MapRoot }> {
  const memory = new MemoryStore();
  const changes = Array.from({ length: count }, (_, block): [number, number] => [block, seed(block)]);
  const { root } = await new Uploader({ store: memory, org: ORG }).upload(null, changesOf(changes));
  return { memory, store: new FaultyStore(memory), root };
}

const packReads = (store: FaultyStore): number => store.calls.filter(({ key }) => key.includes("/packs/")).length;

describe("a block reader", () => {
  it("reads ranges of bytes", async () => {
    const { store, root } = await volume(5);
    const reader = new BlockReader({ store, org: ORG, root });
    const all = Buffer.concat([1, 2, 3, 4, 5, 0].map(blockOf));
    for (const [offset, length] of [
      [0, 10],
      [BLOCK_BYTES - 5, 10],
      [100, 3 * BLOCK_BYTES],
      [4 * BLOCK_BYTES, 2 * BLOCK_BYTES],
      [7, 0],
    ] as const)
      assert.ok((await reader.readRange(offset, length)).equals(all.subarray(offset, offset + length)), `${offset} ${length}`);
    await assert.rejects(reader.readRange(-1, 5), rejectsWith("invalid_request"));
    await assert.rejects(reader.readBlocks(0, 257), rejectsWith("invalid_request"));
  });

  it("reads adjacent chunks by one request, and nothing for zeros", async () => {
    const { store, root } = await volume(20);
    const reader = new BlockReader({ store, org: ORG, root });
    await reader.readBlocks(0, 20);
    assert.equal(packReads(store), 1);
    await reader.readBlocks(20, 200);
    assert.equal(packReads(store), 1);
    assert.equal(reader.stats.zeros, 200);
    assert.equal(reader.stats.fetched, 20);
  });

  it("asks once for what several want at the same time, and for what it has in memory not at all", async () => {
    const { store, root } = await volume(3);
    const reader = new BlockReader({ store, org: ORG, root });
    const blocks = await Promise.all(Array.from({ length: 10 }, () => reader.read(1)));
    assert.ok(blocks.every((data) => data.equals(blockOf(2))));
    await reader.read(1);
    assert.equal(packReads(store), 1);
  });

  it("keeps no more in memory than it may", async () => {
    const { store, root } = await volume(10, (block) => block * 2 + 1);
    const reader = new BlockReader({ store, org: ORG, root, cacheBytes: 2 * BLOCK_BYTES });
    for (const block of [0, 5, 9, 0, 5, 9]) await reader.read(block);
    assert.equal(packReads(store), 6);
    await reader.read(9);
    assert.equal(packReads(store), 6);
  });

  it("uses a cache behind the one in memory, and does not believe it", async () => {
    const { store, root } = await volume(3);
    const kept = new Map<string, Buffer>();
    const cache = {
      get: async (hash: string) => kept.get(hash),
      put: async (hash: string, data: Buffer) => {
        kept.set(hash, Buffer.from(data));
      },
    };
    await new BlockReader({ store, org: ORG, root, cache }).readBlocks(0, 3);
    assert.equal(kept.size, 3);
    const second = new BlockReader({ store, org: ORG, root, cache });
    assert.ok((await second.read(2)).equals(blockOf(3)));
    assert.equal(second.stats.cacheHits, 1);
    assert.equal(packReads(store), 1);
    for (const data of kept.values()) data.fill(9);
    const third = new BlockReader({ store, org: ORG, root, cache });
    assert.ok((await third.read(2)).equals(blockOf(3)));
    assert.equal(packReads(store), 2);
    const broken = { get: () => Promise.reject(new Error("disk")), put: () => Promise.reject(new Error("disk")) };
    assert.ok((await new BlockReader({ store, org: ORG, root, cache: broken }).read(0)).equals(blockOf(1)));
  });

  it("reports damage, cut packs and missing packs, and reads on after a fault", async () => {
    const { memory, store, root } = await volume(4, (block) => block * 2 + 2);
    const [key = "", held] = [...memory.objects].find(([name]) => name.includes("/packs/")) ?? [];
    const whole = Buffer.from(held?.data ?? []);
    const read = (block: number) => new BlockReader({ store, org: ORG, root }).read(block);
    for (let at = 24; at < whole.length - 48 - 4 * 40; at++) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 0x10, at);
      await memory.put(key, damaged);
      const outcomes = await Promise.allSettled([0, 1, 2, 3].map(read));
      // A bit of a zstd frame may be without effect; wrong content never comes out.
      outcomes.forEach((outcome, block) => {
        if (outcome.status === "fulfilled") assert.ok(outcome.value.equals(blockOf(block * 2 + 2)));
        else assert.ok(rejectsWith("data_damaged")(outcome.reason));
      });
    }
    await memory.put(key, whole.subarray(0, 30));
    await assert.rejects(read(3), rejectsWith("data_damaged"));
    await memory.delete(key);
    await assert.rejects(read(0), /is missing/);
    await memory.put(key, whole);
    const reader = new BlockReader({ store, org: ORG, root });
    let faults = 1;
    store.decide = (_, name) => (name === key && faults-- > 0 ? "before" : "none");
    await assert.rejects(reader.read(0), rejectsWith("store_unavailable"));
    assert.ok((await reader.read(0)).equals(blockOf(2)));
  });

  it("plans requests within packs and bounds", () => {
    const ref = (pack: string, offset: number, storedBytes: number) => ({
      ...fakeRef(1),
      hash: `${pack}${offset}`,
      pack,
      offset,
      storedBytes,
    });
    const runs = planRuns([
      ref("b", 24, 100),
      ref("a", 124, 50),
      ref("a", 24, 100),
      ref("a", 10_000_000, 60_000),
      ref("a", 10_060_000 + 65_537, 10),
    ]);
    assert.deepEqual(
      runs.map(({ pack, offset, length, refs }) => [pack, offset, length, refs.length]),
      [
        ["b", 24, 100, 1],
        ["a", 24, 150, 2],
        ["a", 10_000_000, 60_000, 1],
        ["a", 10_125_537, 10, 1],
      ],
    );
    const many = planRuns(Array.from({ length: 200 }, (_, number) => ref("c", 24 + number * 65_536, 65_536)));
    assert.ok(many.every(({ length }) => length <= 4 * 1024 * 1024));
    assert.equal(
      many.reduce((sum, { refs }) => sum + refs.length, 0),
      200,
    );
  });
});
