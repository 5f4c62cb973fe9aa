import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { MAX_BLOCKS } from "../src/format/limits.ts";
import { ChunkMap } from "../src/map/chunk-map.ts";
import type { BlockRange, MapRoot } from "../src/map/chunk-ref.ts";
import { diffMaps, walkPages } from "../src/map/traverse.ts";
import { applyTo, fakeRef, type Model } from "./support/blocks.ts";
import { FaultyStore } from "./support/faulty-store.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const ORG = "org";

/** Few places, spread so that pages of all levels are shared and not. */
const aBlock = fc.oneof(
  fc.integer({ min: 0, max: 600 }),
  fc.integer({ min: 65_530, max: 65_545 }),
  fc.integer({ min: MAX_BLOCKS - 300, max: MAX_BLOCKS - 1 }),
);
const someChanges = fc.array(fc.tuple(aBlock, fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 50 }))), { maxLength: 60 });

const collect = async <T>(source: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const one of source) all.push(one);
  return all;
};

const toMapChanges = (changes: readonly (readonly [number, number])[]) =>
  changes.map(([block, seed]) => ({ block, ref: seed === 0 ? null : fakeRef(seed) }));

const rangesOf = (blocks: readonly number[]): BlockRange[] => {
  const ranges: { first: number; count: number }[] = [];
  for (const block of [...blocks].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && last.first + last.count === block) last.count++;
    else ranges.push({ first: block, count: 1 });
  }
  return ranges;
};

const modelDifference = (a: Model, b: Model): number[] =>
  [...new Set([...a.keys(), ...b.keys()])].filter((block) => a.get(block) !== b.get(block));

describe("the chunk map", () => {
  it("is a map of blocks through any sequence of updates and forks", async () => {
    const step = fc.record({ from: fc.nat(), changes: someChanges });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
        const store = new MemoryStore();
        const states: { root: MapRoot; model: Model }[] = [{ root: null, model: new Map() }];
        for (const { from, changes } of steps) {
          const base = states[from % states.length] as { root: MapRoot; model: Model };
          const update = await new ChunkMap({ store, org: ORG, root: base.root }).update(toMapChanges(changes));
          const model = applyTo(base.model, changes);
          assert.equal(update.storedBlocks, model.size);
          states.push({ root: update.root, model });
        }
        for (const { root, model } of states) {
          const map = new ChunkMap({ store, org: ORG, root });
          assert.equal(await map.storedBlocks(), model.size);
          const entries = await collect(map.walk());
          assert.deepEqual(
            entries.map(({ block, ref }) => [block, ref]),
            [...model].sort(([a], [b]) => a - b).map(([block, seed]) => [block, fakeRef(seed)]),
          );
          for (const block of [0, 1, 255, 256, 600, 65_536, MAX_BLOCKS - 1]) {
            const seed = model.get(block);
            assert.deepEqual(await map.lookup(block), seed === undefined ? undefined : fakeRef(seed));
          }
          const other = states[Math.floor(states.length / 2)] as { root: MapRoot; model: Model };
          assert.deepEqual(await collect(map.diff(other.root)), rangesOf(modelDifference(model, other.model)));
        }
      }),
      { numRuns: 60 },
    );
  });

  it("looks up ranges across pages", async () => {
    const store = new MemoryStore();
    const { map } = await new ChunkMap({ store, org: ORG }).update(
      [250, 255, 256, 300, 512].map((block) => ({ block, ref: fakeRef(block) })),
    );
    const refs = await map.lookupRange(250, 300);
    assert.equal(refs.length, 300);
    const found = refs.map((ref, number) => (ref === undefined ? -1 : 250 + number)).filter((block) => block >= 0);
    assert.deepEqual(found, [250, 255, 256, 300, 512]);
    assert.deepEqual(refs[6], fakeRef(256));
  });

  it("writes the changed paths only, and nothing when nothing changes", async () => {
    const store = new FaultyStore(new MemoryStore());
    const first = await new ChunkMap({ store, org: ORG }).update(
      Array.from({ length: 5000 }, (_, number) => ({ block: number * 100, ref: fakeRef(number) })),
    );
    const one = await first.map.update([{ block: 100, ref: fakeRef(77) }]);
    assert.equal(one.pages, 3);
    const puts = store.calls.filter(({ operation }) => operation === "put").length;
    const none = await one.map.update([
      { block: 100, ref: fakeRef(77) },
      { block: 101, ref: null },
    ]);
    assert.equal(none.root, one.root);
    assert.equal(store.calls.filter(({ operation }) => operation === "put").length, puts);
  });

  it("compares in time that grows with the difference", async () => {
    const store = new FaultyStore(new MemoryStore());
    const first = await new ChunkMap({ store, org: ORG }).update(
      Array.from({ length: 20_000 }, (_, number) => ({ block: number * 50, ref: fakeRef(number) })),
    );
    const second = await first.map.update([{ block: 123_456, ref: fakeRef(1) }]);
    const fresh = new ChunkMap({ store, org: ORG, root: first.root });
    store.calls.length = 0;
    assert.deepEqual(await collect(fresh.diff(second.root)), [{ first: 123_456, count: 1 }]);
    assert.ok(store.calls.length <= 6, `${store.calls.length} requests`);
    store.calls.length = 0;
    await new ChunkMap({ store, org: ORG, root: second.root }).lookup(123_456);
    assert.equal(store.calls.length, 3);
  });

  it("is empty again when all blocks are zero", async () => {
    const store = new MemoryStore();
    const { map } = await new ChunkMap({ store, org: ORG }).update([1, 70_000].map((block) => ({ block, ref: fakeRef(block) })));
    const empty = await map.update([1, 70_000].map((block) => ({ block, ref: null })));
    assert.equal(empty.root, null);
    assert.equal(empty.storedBlocks, 0);
    assert.equal(empty.pages, 0);
  });

  it("never gives a page the name of one that was dropped before", async () => {
    const store = new MemoryStore();
    const one = await new ChunkMap({ store, org: ORG }).update([{ block: 1, ref: fakeRef(1) }]);
    const two = await one.map.update([{ block: 2, ref: fakeRef(2) }]);
    const again = await two.map.update([{ block: 2, ref: null }]);
    assert.notEqual(again.root, one.root);
    assert.deepEqual(await collect(again.map.diff(one.root)), []);
  });

  it("takes a chunk that lies elsewhere for the same content", async () => {
    const store = new MemoryStore();
    const one = await new ChunkMap({ store, org: ORG }).update([{ block: 1, ref: fakeRef(1) }]);
    const moved = await one.map.update([{ block: 1, ref: { ...fakeRef(1), offset: 9999 } }]);
    assert.equal(moved.pages, 3);
    assert.deepEqual(await collect(diffMaps(moved.map.pages, one.root, moved.root)), []);
  });

  it("has in memory the very bytes of pages that it wrote or read", async () => {
    const store = new MemoryStore();
    const map = new ChunkMap({ store, org: ORG });
    const written = (
      await map.update(
        toMapChanges([
          [0, 1],
          [300, 2],
          [70_000, 3],
          [70_001, 11],
        ]),
      )
    ).map;
    const read = new ChunkMap({ store, org: ORG, root: written.root });
    await collect(read.walk());
    const names = [...store.objects.keys()].map((key) => key.slice(-64));
    assert.equal(names.length, 6);
    for (const { pages } of [written, read])
      for (const name of names) assert.deepEqual(pages.cached(name), store.objects.get(pages.keys.page(name))?.data);
    assert.equal(new ChunkMap({ store, org: ORG }).pages.cached(names[0] ?? ""), undefined);
  });

  it("refuses blocks outside of the largest volume", async () => {
    const map = new ChunkMap({ store: new MemoryStore(), org: ORG });
    for (const block of [-1, MAX_BLOCKS, 1.5, Number.NaN]) {
      await assert.rejects(map.lookup(block), rejectsWith("invalid_request"));
      await assert.rejects(map.update([{ block, ref: null }]), rejectsWith("invalid_request"));
    }
    await assert.rejects(map.lookupRange(MAX_BLOCKS - 1, 2), rejectsWith("invalid_request"));
  });

  it("reports pages that are missing, damaged or in the wrong place", async () => {
    const store = new MemoryStore();
    const { root, map } = await new ChunkMap({ store, org: ORG }).update([{ block: 1, ref: fakeRef(1) }]);
    const names: { name: string; level: number }[] = [];
    await walkPages(map.pages, root, { enter: (name, level) => names.push({ name, level }) > 0 });
    assert.deepEqual(
      names.map(({ level }) => level),
      [2, 1, 0],
    );
    const leaf = `orgs/${ORG}/maps/${names[2]?.name}`;
    const held = store.objects.get(leaf);
    if (held === undefined) throw new Error("no leaf");
    const lookup = () => new ChunkMap({ store, org: ORG, root }).lookup(1);
    held.data.writeUInt8(held.data.readUInt8(30) ^ 1, 30);
    await assert.rejects(lookup(), rejectsWith("data_damaged"));
    store.objects.delete(leaf);
    await assert.rejects(lookup(), /is missing/);
    await assert.rejects(new ChunkMap({ store, org: ORG, root: names[1]?.name ?? "" }).lookup(1), /level 1/);
  });
});
