import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { BLOCK_BYTES, type BlockChange, type MapRoot, OrgKeys, readStart, Uploader, writeStart } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import fc from "fast-check";
import { ReadAhead } from "../src/block-server/read-ahead.ts";
import { StoreReads } from "../src/durability/store-reads.ts";
import { RoundStore } from "./support/round-store.ts";

const folder = mkdtempSync(join(tmpdir(), "hob-reads-"));
after(() => rmSync(folder, { recursive: true }));
const SPRITE = { organization: "org", spriteId: "s1" };
const keys = new OrgKeys("org").sprite("s1");
const SIZE = 16 * 1024 ** 3;
const log = { info: () => {}, warn: () => {} };

/** What mounting a file system and starting programs on it is like: places all over the volume, one after the other. */
const TOUCHED = Array.from({ length: 24 }, (_, index) => ((index * 7) % 24) * 4_000 + index);

/** Barely compressible, and different for each block. */
const contentOf = (block: number): Buffer => {
  const data = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 4) data.writeUInt32LE(Math.imul(block * 65_536 + at + 1, 2_654_435_761) >>> 0, at);
  return data;
};

async function* changes(blocks: readonly number[]): AsyncGenerator<BlockChange> {
  for (const block of blocks) yield { block, data: contentOf(block) };
}

async function volume(name: string, blocks: readonly number[]): Promise<{ store: RoundStore; root: MapRoot }> {
  const store = new RoundStore(await DirectoryStore.open(join(folder, name)));
  const { root } = await new Uploader({ store, org: "org" }).upload(null, changes(blocks.toSorted((a, b) => a - b)));
  return { store, root };
}

async function readInOrder(source: { read(offset: number, length: number): Promise<Buffer> }, blocks: readonly number[]): Promise<void> {
  for (const block of blocks) {
    const data = await source.read(block * BLOCK_BYTES + 4096, 4096);
    assert.ok(data.equals(contentOf(block).subarray(4096, 8192)), `block ${block}`);
  }
}

describe("a start from the store", () => {
  test("waits for few round trips when it reads what the last one has read, and for many when nobody fetched it", async () => {
    const { store, root } = await volume("start", TOUCHED);
    await writeStart(store, keys, "s1", { blocks: TOUCHED, untilReady: TOUCHED.length });
    await using cold = new StoreReads({ store, ...SPRITE, log });
    const before = store.rounds;
    await readInOrder(cold.source(root, SIZE), TOUCHED);
    const unprepared = store.rounds - before;
    assert.ok(unprepared >= 2 * TOUCHED.length, `a page and a chunk each: ${unprepared}`);
    await using warm = new StoreReads({ store, ...SPRITE, log });
    const start = store.rounds;
    warm.expectStart(root);
    await readInOrder(warm.source(root, SIZE), TOUCHED);
    const prepared = store.rounds - start;
    assert.ok(prepared <= unprepared / 3, `${prepared} rounds instead of ${unprepared}`);
    assert.equal(new Set(store.keys.slice(-warm.fetched.fetched_requests).filter((key) => key.includes("/maps/"))).size, 24 + 2 + 1);
  });

  test("fetches what was read when the sprite ran already only when it runs", async () => {
    const { store, root } = await volume("later", TOUCHED);
    await writeStart(store, keys, "s1", { blocks: TOUCHED, untilReady: 4 });
    const fetched = Promise.withResolvers<void>();
    const info = (_: unknown, what?: string) => {
      if (what?.includes("ahead")) fetched.resolve();
    };
    await using reads = new StoreReads({ store, ...SPRITE, log: { ...log, info } });
    reads.expectStart(root);
    const packs = () => store.keys.filter((key) => key.includes("/packs/")).length;
    await readInOrder(reads.source(root, SIZE), TOUCHED.slice(0, 4));
    assert.equal(packs(), 4);
    reads.ready();
    await fetched.promise;
    const before = store.keys.length;
    await readInOrder(reads.source(root, SIZE), TOUCHED);
    assert.equal(store.keys.length, before, "all of it is there");
  });

  test("of a volume whose last start is not known, the first blocks are fetched", async () => {
    const blocks = Array.from({ length: 24 }, (_, index) => index * 3);
    const { store, root } = await volume("unknown", blocks);
    await using reads = new StoreReads({ store, ...SPRITE, log });
    reads.expectStart(root);
    await readInOrder(reads.source(root, SIZE), blocks);
    assert.ok(store.rounds <= 12, `${store.rounds} rounds`);
  });

  test("records what it reads, for the next; what is fetched ahead is no read", async () => {
    const { store, root } = await volume("record", TOUCHED);
    await writeStart(store, keys, "s1", { blocks: [...TOUCHED, 8_000], untilReady: 3 });
    const recorded = Promise.withResolvers<void>();
    const info = (_: unknown, what?: string) => {
      if (what?.includes("recorded")) recorded.resolve();
    };
    await using reads = new StoreReads({ store, ...SPRITE, log: { ...log, info }, recordedMs: 300 });
    reads.expectStart(root);
    const wanted = [TOUCHED[3], TOUCHED[1], TOUCHED[2], TOUCHED[1]] as number[];
    const source = reads.source(root, SIZE);
    await readInOrder(source, wanted);
    reads.ready();
    await readInOrder(source, [TOUCHED[7] as number]);
    await recorded.promise;
    await readInOrder(source, [TOUCHED[8] as number]);
    assert.deepEqual(await readStart(store, keys), { blocks: [...wanted.slice(0, 3), TOUCHED[7]], untilReady: 3 });
  });

  test("finds what was fetched before on this machine's disk, without the store", async () => {
    const { store, root } = await volume("cached", TOUCHED);
    const cache = { directory: join(folder, "chunks"), maxBytes: 100 * BLOCK_BYTES };
    {
      await using reads = new StoreReads({ store, ...SPRITE, log, cache });
      await readInOrder(reads.source(root, SIZE), TOUCHED);
    }
    store.keys.length = 0;
    await using reads = new StoreReads({ store, ...SPRITE, log, cache });
    await readInOrder(reads.source(root, SIZE), TOUCHED);
    assert.deepEqual(
      store.keys.filter((key) => key.includes("/packs/")),
      [],
    );
  });

  test("goes on without what it cannot fetch ahead", async () => {
    const { store, root } = await volume("fault", TOUCHED);
    const get = store.get.bind(store);
    let faults = 2;
    store.get = async (key, options) => {
      if (faults-- > 0) throw new HobError("store_unavailable", "it is away for a moment");
      return await get(key, options);
    };
    await using reads = new StoreReads({ store, ...SPRITE, log });
    reads.expectStart(root);
    await readInOrder(reads.source(root, SIZE), TOUCHED.slice(0, 3));
  });
});

/** Reads a device in order, and keeps what was fetched ahead. */
class Reader {
  readonly #total: number;
  readonly #ahead: ReadAhead;
  readonly #fetched = new Set<number>();
  #at = 0;

  constructor(total: number) {
    this.#total = total;
    this.#ahead = new ReadAhead(total);
  }

  /** @returns how many of the next blocks were not there */
  read(step: number): number {
    const count = Math.min(step, this.#total - this.#at);
    if (count <= 0) return 0;
    const wanted = Array.from({ length: count }, (_, index) => this.#at + index);
    const missed = wanted.filter((block) => !this.#fetched.has(block)).length;
    const more = this.#ahead.note({ first: this.#at, count });
    this.#at += count;
    if (more === undefined) return missed;
    assert.ok(more.count > 0 && more.first >= this.#at && more.first + more.count <= this.#total);
    for (let block = more.first; block < more.first + more.count; block++) {
      assert.ok(!this.#fetched.has(block), `${block} a second time`);
      this.#fetched.add(block);
    }
    return missed;
  }
}

describe("reading ahead", () => {
  test("fetches no block twice for one reader, nothing beyond the end, and is ahead of whoever reads in order", () =>
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 600 }), fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 300 }), (total, steps) => {
        const reader = new Reader(total);
        let missed = 0;
        for (const step of steps) missed += reader.read(step);
        assert.ok(missed <= 6, `${missed} blocks were not there when they were read`);
      }),
    ));

  test("leaves those alone who jump about, and keeps readers apart", () => {
    const ahead = new ReadAhead(1_000_000);
    for (let index = 0; index < 100; index++) assert.equal(ahead.note({ first: (index * 7_919) % 1_000_000, count: 1 }), undefined);
    const fetched = [0, 0];
    for (let index = 0; index < 50; index++) {
      for (const reader of [0, 1])
        fetched[reader] = (fetched[reader] ?? 0) + (ahead.note({ first: reader * 500_000 + index, count: 1 })?.count ?? 0);
    }
    assert.ok(
      fetched.every((count) => count >= 49),
      String(fetched),
    );
  });
});
