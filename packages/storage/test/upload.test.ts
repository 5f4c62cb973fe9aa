import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { sha256 } from "../src/format/hash.ts";
import { BLOCK_BYTES, MAX_BLOCKS, MAX_PACK_BYTES } from "../src/format/limits.ts";
import { decodePack } from "../src/format/pack.ts";
import type { MapRoot } from "../src/map/chunk-ref.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { RetryingStore } from "../src/store/retrying-store.ts";
import { RECENT_MAX_AGE_MS, RecentChunks } from "../src/upload/recent-chunks.ts";
import type { BlockChange } from "../src/upload/types.ts";
import { Uploader, type UploaderOptions } from "../src/upload/uploader.ts";
import { applyTo, blockOf, changesOf, differences, type Model } from "./support/blocks.ts";
import { FaultyStore } from "./support/faulty-store.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const ORG = "org";
const uploaderOf = (store: UploaderOptions["store"], options: Partial<UploaderOptions> = {}) =>
  new Uploader({ store, org: ORG, ...options });
const isPack = (key: string): boolean => key.startsWith(`orgs/${ORG}/packs/`);
const range = (count: number, seed: (block: number) => number): [number, number][] =>
  Array.from({ length: count }, (_, block) => [block, seed(block)]);

describe("an upload", () => {
  it("reads back exactly, whatever was changed in which order", async () => {
    const change = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 12 }));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(change, { maxLength: 30 }), { minLength: 1, maxLength: 4 }), async (uploads) => {
        const store = new MemoryStore();
        const uploader = uploaderOf(store, { packTargetBytes: 200_000 });
        const states: { root: MapRoot; model: Model }[] = [{ root: null, model: new Map() }];
        for (const changes of uploads) {
          const base = states.at(-1) as { root: MapRoot; model: Model };
          const { root, storedBlocks } = await uploader.upload(base.root, changesOf(changes));
          states.push({ root, model: applyTo(base.model, changes) });
          assert.equal(storedBlocks, states.at(-1)?.model.size);
        }
        for (const { root, model } of states)
          assert.deepEqual(
            await differences(
              new BlockReader({ store, org: ORG, root }),
              model,
              range(42, () => 0).map(([block]) => block),
            ),
            [],
          );
      }),
      { numRuns: 25 },
    );
  });

  it("leaves the memory of a pack alone until the store has answered", async () => {
    const store = new MemoryStore();
    const put = store.put.bind(store);
    store.put = async (key, data, options) => {
      const before = sha256(data);
      for (let i = 0; i < 200; i++) await turn();
      assert.equal(sha256(data), before);
      if (isPack(key)) assert.ok(key.endsWith(before));
      return await put(key, data, options);
    };
    const changes = range(60, (block) => 3 + 3 * block);
    const { root, stats } = await uploaderOf(store, { packTargetBytes: 200_000 }).upload(null, changesOf(changes));
    assert.ok(stats.packs > 5);
    const model = applyTo(new Map(), changes);
    assert.deepEqual(await differences(new BlockReader({ store, org: ORG, root }), model, [...model.keys()]), []);
  });

  it("counts what it did", async () => {
    const store = new MemoryStore();
    const uploader = uploaderOf(store);
    const first = await uploader.upload(
      null,
      changesOf([
        [0, 3],
        [1, 3],
        [2, 0],
        [3, 4],
      ]),
    );
    assert.deepEqual(
      { ...first.stats, bytesUploaded: 0 },
      {
        blocks: 4,
        zeroBlocks: 1,
        unchangedBlocks: 0,
        reusedBlocks: 0,
        bytesRead: 3 * BLOCK_BYTES,
        bytesUploaded: 0,
        packs: 1,
        pages: 3,
      },
    );
    const stored = [...store.objects.values()].reduce((sum, { data }) => sum + data.length, 0);
    assert.equal(first.stats.bytesUploaded, stored);
    const second = await uploader.upload(
      first.root,
      changesOf([
        [0, 3],
        [9, 4],
      ]),
    );
    assert.equal(second.stats.unchangedBlocks, 1);
    assert.equal(second.stats.reusedBlocks, 1);
    assert.equal(second.stats.packs, 0);
  });

  it("sends nothing for content that the base has at that place, and moves what was just sent", async () => {
    const store = new MemoryStore();
    const first = await uploaderOf(store).upload(null, changesOf(range(50, (block) => block + 1)));
    const again = await uploaderOf(store).upload(first.root, changesOf(range(50, (block) => block + 1)));
    assert.equal(again.root, first.root);
    assert.equal(again.stats.bytesUploaded, 0);
  });

  it("forgets chunks that gc could take", async () => {
    let now = 1_000_000;
    const store = new MemoryStore();
    const uploader = uploaderOf(store, { recent: new RecentChunks(100, () => now), now: () => now });
    const first = await uploader.upload(null, changesOf([[0, 3]]));
    now += RECENT_MAX_AGE_MS + 1;
    const second = await uploader.upload(first.root, changesOf([[5, 3]]));
    assert.equal(second.stats.reusedBlocks, 0);
    assert.equal(second.stats.packs, 1);
    // A clock that was days ahead is put right: how old they are nobody knows.
    now -= 3 * 24 * RECENT_MAX_AGE_MS;
    const third = await uploader.upload(second.root, changesOf([[9, 3]]));
    assert.deepEqual([third.stats.reusedBlocks, third.stats.packs], [0, 1]);
  });

  it("does not send again what one that failed has brought there, unless it is gone", async () => {
    const memory = new MemoryStore();
    const store = new FaultyStore(memory);
    const uploader = uploaderOf(store, { packTargetBytes: 500_000, concurrentPuts: 1 });
    let packs = 0;
    store.decide = (operation, key) => (operation === "put" && isPack(key) && ++packs > 4 ? "before" : "none");
    const changes = () => changesOf(range(60, (block) => block * 2 + 1));
    await assert.rejects(uploader.upload(null, changes()), rejectsWith("store_unavailable"));
    const written = [...memory.objects.keys()].filter(isPack);
    assert.equal(written.length, 4);
    const [gone = "", ...kept] = written;
    memory.objects.delete(gone);
    store.decide = () => "none";
    const { root, stats } = await uploader.upload(null, changes());
    const chunksOf = (key: string) => decodePack(key, memory.objects.get(key)?.data as Buffer).length;
    assert.equal(
      stats.reusedBlocks,
      kept.map(chunksOf).reduce((sum, chunks) => sum + chunks),
    );
    assert.ok(stats.reusedBlocks > 0);
    const model: Model = new Map(range(60, (block) => block * 2 + 1));
    assert.deepEqual(await differences(new BlockReader({ store: memory, org: ORG, root }), model, model.keys()), []);
  });

  it("gives equal packs different names", async () => {
    const store = new MemoryStore();
    await uploaderOf(store).upload(null, changesOf([[0, 3]]));
    await uploaderOf(store).upload(null, changesOf([[0, 3]]));
    assert.equal([...store.objects.keys()].filter(isPack).length, 2);
  });

  it("writes packs before the pages that name them, of bounded size", async () => {
    const store = new FaultyStore(new MemoryStore());
    store.decide = (_, key) => (isPack(key) ? "late" : "none");
    const memory = new MemoryStore();
    const ordered = new FaultyStore(memory);
    await uploaderOf(ordered, { packTargetBytes: 1_000_000 }).upload(null, changesOf(range(60, (block) => block * 2 + 1)));
    const kinds = ordered.calls.filter(({ operation }) => operation === "put").map(({ key }) => (isPack(key) ? "pack" : "page"));
    assert.equal(kinds.lastIndexOf("pack") < kinds.indexOf("page"), true);
    for (const [key, { data }] of memory.objects) {
      if (!isPack(key)) continue;
      assert.ok(data.length <= 1_000_000 + BLOCK_BYTES + 200);
      assert.ok(decodePack(key, data).length > 0);
    }
  });

  it("never makes a pack that is too large", async () => {
    const memory = new MemoryStore();
    await uploaderOf(memory, { packTargetBytes: 1e9 }).upload(null, changesOf(range(600, (block) => block * 2 + 1)));
    for (const { data } of memory.objects.values()) assert.ok(data.length <= MAX_PACK_BYTES);
  });

  it("reads its source no faster than the store takes packs", async () => {
    const store = new FaultyStore(new MemoryStore());
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const held = {
      ...store,
      description: "held",
      get: store.get.bind(store),
      head: store.head.bind(store),
      delete: store.delete.bind(store),
      list: store.list.bind(store),
      probe: store.probe.bind(store),
      put: async (...args: Parameters<typeof store.put>) => {
        if (isPack(args[0])) await gate;
        return await store.put(...args);
      },
    };
    let taken = 0;
    async function* source(): AsyncGenerator<BlockChange> {
      for (let block = 0; block < 400; block++) {
        taken = block;
        yield { block, data: blockOf(block * 2 + 1) };
      }
    }
    const upload = uploaderOf(held, { packTargetBytes: 10 * BLOCK_BYTES, concurrentPuts: 2 }).upload(null, source());
    let last = -1;
    // Goes on until it stands still: nothing but the gate can move it then.
    for (let still = 0; still < 200; still = taken === last ? still + 1 : 0) {
      last = taken;
      await turn();
    }
    assert.ok(taken < 80, `${taken} blocks were taken`);
    release();
    assert.equal((await upload).storedBlocks, 400);
  });

  it("goes on through faults of the store", async () => {
    const memory = new MemoryStore();
    const faulty = new FaultyStore(memory);
    let number = 0;
    faulty.decide = () => (["before", "none", "after", "none", "none"] as const)[number++ % 5] ?? "none";
    const store = new RetryingStore(faulty, { attempts: 10, firstPauseMs: 1, longestPauseMs: 2 });
    const changes = range(80, (block) => block + 1);
    const { root } = await uploaderOf(store, { packTargetBytes: 300_000 }).upload(null, changesOf(changes));
    const reader = new BlockReader({ store, org: ORG, root });
    assert.deepEqual(
      await differences(
        reader,
        applyTo(new Map(), changes),
        range(90, () => 0).map(([block]) => block),
      ),
      [],
    );
  });

  it("ends with the first error, and ends its source", async () => {
    const store = new FaultyStore(new MemoryStore());
    store.decide = (operation, key) => (operation === "put" && isPack(key) ? "before" : "none");
    let ended = false;
    async function* endless(): AsyncGenerator<BlockChange> {
      try {
        for (let block = 0; ; block++) yield { block, data: blockOf(block * 2 + 1) };
      } finally {
        ended = true;
      }
    }
    await assert.rejects(uploaderOf(store, { packTargetBytes: 100_000 }).upload(null, endless()), /fault before put/);
    await turn();
    assert.ok(ended);
    assert.ok(store.calls.every(({ key }) => isPack(key)));
  });

  it("ends when its source fails, and when it is aborted while it waits", async () => {
    const store = new MemoryStore();
    async function* failing(): AsyncGenerator<BlockChange> {
      yield { block: 0, data: blockOf(1) };
      throw new Error("the device is gone");
    }
    await assert.rejects(uploaderOf(store).upload(null, failing()), /the device is gone/);
    async function* silent(): AsyncGenerator<BlockChange> {
      await new Promise(() => undefined);
      yield { block: 0, data: undefined };
    }
    const controller = new AbortController();
    const upload = uploaderOf(store).upload(null, silent(), { signal: controller.signal });
    controller.abort(new Error("the sprite stops"));
    await assert.rejects(upload, /the sprite stops/);
  });

  it("refuses what is no block", async () => {
    const bad: BlockChange[] = [
      { block: -1, data: undefined },
      { block: MAX_BLOCKS, data: blockOf(1) },
      { block: 0, data: Buffer.alloc(5) },
    ];
    for (const change of bad) {
      async function* source(): AsyncGenerator<BlockChange> {
        yield change;
      }
      await assert.rejects(uploaderOf(new MemoryStore()).upload(null, source()), rejectsWith("invalid_request"));
    }
  });
});
