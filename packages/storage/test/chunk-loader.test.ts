import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { ChunkRef } from "../src/map/chunk-ref.ts";
import { PageStore } from "../src/map/page-store.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { ChunkLoader } from "../src/read/chunk-loader.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { PriorityGate, Ticket } from "../src/util/priority-gate.ts";
import { blockOf, changesOf } from "./support/blocks.ts";
import { HeldStore } from "./support/held-store.ts";
import { MemoryStore } from "./support/memory-store.ts";

const ORG = "org";

async function refsOf(memory: MemoryStore, blocks: readonly number[], packTargetBytes?: number): Promise<ChunkRef[]> {
  const uploader = new Uploader({ store: memory, org: ORG, ...(packTargetBytes === undefined ? {} : { packTargetBytes }) });
  const { root } = await uploader.upload(null, changesOf(blocks.map((block) => [block, block + 1])));
  const refs = await new BlockReader({ store: memory, org: ORG, root }).map.lookupMany(blocks);
  return refs.filter((ref): ref is ChunkRef => ref !== undefined);
}

/** Lets everything happen that does not wait for the store. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 30; turn++) await new Promise(setImmediate);
};

describe("a chunk loader", () => {
  it("gives every caller the right chunks and fetches none twice at a time, in whatever order answers come", async () => {
    const memory = new MemoryStore();
    // One chunk a pack: each is a request of its own.
    const refs = await refsOf(memory, [0, 2, 4, 6, 8, 10], 1);
    const step = fc.oneof(
      fc.record({ load: fc.uniqueArray(fc.nat(refs.length - 1), { minLength: 1 }), background: fc.boolean() }),
      fc.record({ answer: fc.nat() }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const store = new HeldStore(memory);
        const loader = new ChunkLoader({ store, org: ORG, concurrentGets: 3, cacheBytes: 0 });
        const loads: Promise<void>[] = [];
        const check = async (numbers: number[], background: boolean): Promise<void> => {
          const chunks = await loader.load(
            numbers.map((number) => refs[number] as ChunkRef),
            { background },
          );
          assert.equal(chunks.size, numbers.length);
          for (const number of numbers) assert.ok(chunks.get((refs[number] as ChunkRef).hash)?.equals(blockOf(number * 2 + 1)));
        };
        for (const one of steps) {
          if ("load" in one) loads.push(check(one.load, one.background));
          else store.answer(one.answer);
          await settle();
          const keys = store.held.map(({ key }) => key);
          assert.equal(new Set(keys).size, keys.length, "a chunk is fetched twice at a time");
          assert.ok(keys.length <= 3, "more requests than there may be");
        }
        store.open();
        await Promise.all(loads);
      }),
      { numRuns: 60 },
    );
  });

  it("lets what somebody waits for go before the background, also when the background had it first", async () => {
    const memory = new MemoryStore();
    const refs = await refsOf(memory, [0, 2, 4, 6, 8], 1);
    const [a, b, c, d, e] = refs as [ChunkRef, ChunkRef, ChunkRef, ChunkRef, ChunkRef];
    const store = new HeldStore(memory);
    const loader = new ChunkLoader({ store, org: ORG, concurrentGets: 2 });
    const background = loader.load([a, b, c, d], { background: true });
    await settle();
    assert.deepEqual(packsOf(store), [a.pack], "the background leaves a place free");
    const demand = loader.load([e]);
    await settle();
    const joined = loader.load([d]);
    await settle();
    assert.deepEqual(packsOf(store), [a.pack, e.pack]);
    store.answer(0);
    await settle();
    assert.deepEqual(packsOf(store), [e.pack, d.pack], "d was last in the background, and somebody waits for it");
    store.open();
    assert.ok((await demand).get(e.hash)?.equals(blockOf(9)));
    assert.ok((await joined).get(d.hash)?.equals(blockOf(7)));
    assert.equal((await background).size, 4);
    assert.equal(loader.stats.requests, 5);
  });

  it("is shared by readers of several states: what one has fetched the others have", async () => {
    const memory = new MemoryStore();
    const uploader = new Uploader({ store: memory, org: ORG });
    const first = await uploader.upload(null, changesOf([0, 1, 2].map((block) => [block, block + 1])));
    const second = await uploader.upload(first.root, changesOf([[1, 9]]));
    const chunks = new ChunkLoader({ store: memory, org: ORG });
    const pages = new PageStore({ store: memory, org: ORG });
    const readers = [first.root, second.root].map((root) => new BlockReader({ store: memory, org: ORG, root, pages, chunks }));
    const [before, after] = await Promise.all(readers.map((reader) => reader.readBlocks(0, 3)));
    assert.ok(before?.[1]?.equals(blockOf(2)) && after?.[1]?.equals(blockOf(9)));
    assert.equal(chunks.stats.fetched, 4);
  });
});

describe("a reader that fetches ahead", () => {
  it("asks for pages of one level at the same time, and reads then need no request", async () => {
    const memory = new MemoryStore();
    // Blocks below ten different leaves.
    const blocks = Array.from({ length: 10 }, (_, index) => index * 256);
    const { root } = await new Uploader({ store: memory, org: ORG }).upload(null, changesOf(blocks.map((block) => [block, block + 1])));
    const store = new HeldStore(memory);
    const reader = new BlockReader({ store, org: ORG, root });
    const fetched = reader.fetchAhead([...blocks, 5]);
    let rounds = 0;
    for (await settle(); store.held.length > 0; await settle(), rounds++) store.answerAll();
    await fetched;
    assert.ok(rounds <= 5, `root, level 1, ten leaves eight at a time, chunks: ${rounds} rounds`);
    store.calls = 0;
    for (const block of blocks) assert.ok((await reader.read(block)).equals(blockOf(block + 1)));
    assert.equal(store.calls, 0);
  });
});

describe("the gate", () => {
  it("never lets more through than it may, forgets nobody, and keeps the order of each kind", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.boolean(), fc.nat(3), fc.boolean()), { maxLength: 30 }), async (jobs) => {
        const gate = new PriorityGate(3, 1);
        let running = 0;
        const begun: number[] = [];
        const tickets = jobs.map(([isBackground]) => new Ticket(isBackground));
        const all = jobs.map(([, turns], number) =>
          gate.run(tickets[number] as Ticket, async () => {
            begun.push(number);
            running++;
            assert.ok(running <= 3);
            for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
            running--;
            if (turns === 3) throw new Error("it fails");
          }),
        );
        jobs.forEach(([, , isPromoted], number) => {
          if (isPromoted) gate.promote(tickets[number] as Ticket);
        });
        await Promise.allSettled(all);
        assert.equal(begun.length, jobs.length);
        const inFront = begun.filter((number) => !jobs[number]?.[0]);
        assert.deepEqual(
          inFront,
          inFront.toSorted((x, y) => x - y),
        );
      }),
      { numRuns: 100 },
    ));
});

const packsOf = (store: HeldStore): string[] => store.held.map(({ key }) => key.split("/").at(-1) ?? "");
