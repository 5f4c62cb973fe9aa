import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { acquire, BLOCK_BYTES, sha256 } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { Durability, type DurabilityParts } from "../src/durability/durability.ts";
import { LocalSource, type LocalSourceParts } from "../src/durability/local-source.ts";
import { withRoots } from "../src/durability/store-repair.ts";
import { WrittenBlocks } from "../src/durability/written-blocks.ts";
import { type CheckpointRecord, initialState, type LedgerState } from "../src/volume/ledger.ts";

const [a, b, c, d] = ["a", "b", "c", "d"].map((digit) => digit.repeat(64)) as [string, string, string, string];

const record = (id: string, thin: number, origin: string | null): CheckpointRecord => ({
  ...{ id, thin, origin },
  ...{ createTime: "2026-01-01T00:00:00Z", comment: "", history: [], automatic: false, reason: null },
});

describe("the ledger after a repair of the store", () => {
  test("names the new maps wherever it named those before, and says still what the sprite was put over", () => {
    const state: LedgerState = {
      ...initialState,
      basis: `map:${a}`,
      live: { thin: 3, history: ["v2"], origin: `map:${a}` },
      checkpoints: [record("v1", 1, `map:${a}`), record("v2", 2, `map:${b}`), record("v3", 4, null)],
      uploaded: { thin: 5, origin: `map:${a}`, root: c },
    };
    const next = withRoots(
      state,
      new Map([
        [a, d],
        [c, b],
      ]),
    );
    assert.deepEqual(next, {
      ...state,
      live: { thin: 3, history: ["v2"], origin: `map:${d}` },
      checkpoints: [record("v1", 1, `map:${d}`), record("v2", 2, `map:${b}`), record("v3", 4, null)],
      uploaded: { thin: 5, origin: `map:${d}`, root: b },
    });
    assert.deepEqual(withRoots(initialState, new Map([[a, b]])), initialState);
  });
});

describe("what a machine has of a sprite", () => {
  const content = Buffer.alloc(BLOCK_BYTES, "content");
  const empty = { cached: () => undefined };
  const nothing = { ledger: { state: initialState, find: () => undefined } } as unknown as LocalSourceParts["volume"];

  test("is in the cache, when that is right", async () => {
    const kept = new Map([[sha256(content), content]]);
    const cache = { get: async (hash: string) => kept.get(hash), put: async () => {} };
    await using source = new LocalSource({ volume: nothing, pages: empty, cache });
    assert.equal(await source.chunk(sha256(content), 0, null), content);
    kept.set(sha256(content), Buffer.alloc(BLOCK_BYTES, "another"));
    assert.equal(await source.chunk(sha256(content), 0, null), undefined);
  });

  test("is nothing of a state that it does not know, nor of a device that cannot be had", async () => {
    await using source = new LocalSource({ volume: nothing, pages: empty, cache: undefined });
    assert.equal(await source.chunk(sha256(content), 0, "v1"), undefined);
    const ledger = { state: initialState, find: () => record("v1", 1, `map:${a}`) };
    const broken = { ledger, resolveOrigin: () => Promise.reject(new Error("no device")) };
    await using other = new LocalSource({ volume: broken as unknown as LocalSourceParts["volume"], pages: empty, cache: undefined });
    assert.equal(await other.chunk(sha256(content), 0, "v1"), undefined);
  });
});

describe("a state without its map", () => {
  const sizeBytes = 9 * BLOCK_BYTES + 1000;
  const written = [
    { begin: 3, length: 1, mapped: true },
    { begin: 4, length: 1, mapped: true },
    { begin: 9, length: 1, mapped: true },
  ];
  const v1 = { ...record("v1", 1, `map:${a}`), comment: "first", history: ["v0"], reason: "sleep", automatic: true };
  const state: LedgerState = { ...initialState, checkpoints: [v1], uploaded: { thin: 5, origin: null, root: c } };
  const folder = mkdtempSync(join(tmpdir(), "hob-local-"));
  after(() => rmSync(folder, { recursive: true }));

  /** A pool whose devices are files; of each it says what it was asked for. */
  const sourceOver = (asked: number[], isThere = () => true): LocalSource => {
    const pool = {
      async *changedBlocks(from: number | undefined, thin: number) {
        assert.equal(from, undefined);
        asked.push(thin);
        yield* written;
      },
      activateReadOnly: async (thin: number) => ({ device: join(folder, `thin-${thin}`), [Symbol.asyncDispose]: async () => {} }),
    };
    const ledger = { state, find: (id: string) => (isThere() ? state.checkpoints.find((one) => one.id === id) : undefined) };
    const volume = { ledger, pool, sizeBytes, resolveOrigin: async () => "/dev/null" } as unknown as LocalSourceParts["volume"];
    const page = Buffer.from("a page");
    return new LocalSource({ volume, pages: { cached: (name) => (name === b ? page : undefined) }, cache: undefined });
  };

  test("is what was written to its snapshot, and the map behind it", async () => {
    writeFileSync(join(folder, "thin-1"), Buffer.concat([Buffer.alloc(3 * BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES, "third")]));
    const asked: number[] = [];
    await using source = sourceOver(asked);
    const local = (await source.state("v1", null)) ?? assert.fail("it is not known");
    assert.deepEqual(asked, [1]);
    assert.equal(local.origin, a);
    assert.deepEqual(local.written, [
      { first: 3, count: 2 },
      { first: 9, count: 1 },
    ]);
    assert.deepEqual(await local.read(3), Buffer.alloc(BLOCK_BYTES, "third"));
    assert.deepEqual(local.document, {
      ...{ comment: "first", createdAt: "2026-01-01T00:00:00Z", parent: "v0", automatic: true, reason: "sleep" },
      attributes: { history: '["v0"]' },
    });
    assert.equal((await source.page(b))?.toString(), "a page");
    assert.equal(await source.page(c), undefined);
  });

  test("is nothing of a checkpoint that is deleted meanwhile", async () => {
    writeFileSync(join(folder, "thin-1"), Buffer.alloc(10 * BLOCK_BYTES, "given back in part"));
    const asked: number[] = [];
    await using source = sourceOver(asked, () => asked.length === 0);
    assert.equal(await source.state("v1", null), undefined);
    let looks = 0;
    await using other = sourceOver([], () => looks++ === 0);
    assert.equal(await other.chunk("0".repeat(64), 3, "v1"), undefined);
    assert.equal(looks, 2);
  });

  test("is asked for once, however much is repaired of it", async () => {
    const asked: number[] = [];
    await using source = sourceOver(asked);
    for (const checkpoint of ["v1", null, "v1", null]) await source.state(checkpoint, c);
    assert.deepEqual(asked, [1, 5]);
    const pool = {
      async *changedBlocks(_: number | undefined, thin: number) {
        asked.push(thin);
        yield* written;
      },
    };
    // Two ranges of each.
    const few = new WrittenBlocks(pool, 5);
    asked.length = 0;
    for (const thin of [1, 2, 1, 3, 1, 2]) assert.equal((await few.of(thin)).length, 2);
    assert.deepEqual(asked, [1, 2, 3, 2], "those that were asked for the longest ago are forgotten");
    const none = new WrittenBlocks(pool, 0);
    asked.length = 0;
    for (const thin of [1, 1]) await none.of(thin);
    assert.deepEqual(asked, [1]);
  });

  test("has no zeros in place of what cannot be read", async () => {
    const path = join(folder, "thin-1");
    writeFileSync(path, Buffer.alloc(sizeBytes, "content"));
    await using source = sourceOver([]);
    const last = (await source.state("v1", null)) ?? assert.fail();
    assert.deepEqual(await last.read(9), Buffer.concat([Buffer.alloc(sizeBytes, "content").subarray(9 * BLOCK_BYTES)], BLOCK_BYTES));
    assert.equal(await last.read(10), undefined, "the volume has no such block");
    truncateSync(path, 3 * BLOCK_BYTES + 1);
    await using other = sourceOver([]);
    const short = (await other.state("v1", null)) ?? assert.fail();
    assert.deepEqual([await short.read(3), await short.read(9)], [undefined, undefined]);
  });

  test("is for the newest what was uploaded last, and nothing when the store has come to another", async () => {
    const asked: number[] = [];
    await using source = sourceOver(asked);
    assert.equal(await source.state(null, d), undefined);
    assert.equal(await source.state("v9", null), undefined);
    const local = (await source.state(null, c)) ?? assert.fail("it is not known");
    assert.deepEqual([asked, local.origin, local.document], [[5], null, undefined]);
    assert.equal(await local.read(3), undefined, "there is no such device");
  });
});

describe("whoever writes the head beside the uploads", () => {
  const folder = mkdtempSync(join(tmpdir(), "hob-repair-"));
  after(() => rmSync(folder, { recursive: true }));

  test("has it alone: an upload under way ends first, and the next waits", async () => {
    const store = await DirectoryStore.open(folder);
    await acquire({ store, org: "org", sprite: "s1", owner: "host", initial: { volumeBytes: BLOCK_BYTES } });
    const events: string[] = [];
    const uploading = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const begun = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let uploads = 0;
    const upload = {
      checkpoints: [],
      bases: () => [],
      isFor: () => true,
      writtenMark: async () => String(uploads),
      live: async () => {
        const number = uploads++;
        events.push(`upload ${number} begins`);
        begun[number]?.resolve();
        await uploading[number]?.promise;
        events.push(`upload ${number} ends`);
        const result = { root: null, storedBlocks: 0, stats: {}, startedAt: Date.now() };
        return { result, history: [], undo: null, written: String(number), keep: async () => {}, [Symbol.asyncDispose]: async () => {} };
      },
    } as unknown as DurabilityParts["upload"];
    await using durability = new Durability({ store, upload, log: { info: () => {}, warn: () => {}, error: () => {} } });
    durability.assign({ organization: "org", spriteId: "s1", owner: "host", epoch: 1 });
    await begun[0]?.promise;
    const held = Promise.withResolvers<void>();
    const work = durability.exclusively(async (ownership) => {
      events.push(`work under epoch ${ownership.epoch}`);
      await held.promise;
      events.push("work ends");
    });
    uploading[0]?.resolve();
    const synced = durability.sync();
    uploading[1]?.resolve();
    held.resolve();
    await Promise.all([work, synced]);
    assert.deepEqual(events, [
      ...["upload 0 begins", "upload 0 ends"],
      ...["work under epoch 1", "work ends"],
      ...["upload 1 begins", "upload 1 ends"],
    ]);
  });

  test("is refused while the volume is still to be fetched", async () => {
    const store = await DirectoryStore.open(folder);
    const upload = { checkpoints: [], isFor: () => false } as unknown as DurabilityParts["upload"];
    await using durability = new Durability({ store, upload, log: { info: () => {}, warn: () => {}, error: () => {} } });
    durability.assign({ organization: "org", spriteId: "s1", owner: "host", epoch: 1 });
    await assert.rejects(
      durability.exclusively(async () => assert.fail()),
      (error) => error instanceof HobError && error.code === "conflict",
    );
  });

  test("is refused where there is no store", async () => {
    const store = await DirectoryStore.open(folder);
    const upload = {} as DurabilityParts["upload"];
    await using durability = new Durability({ store, upload, log: { info: () => {}, warn: () => {}, error: () => {} } });
    await assert.rejects(
      durability.exclusively(async () => assert.fail()),
      (error) => error instanceof HobError && error.code === "conflict",
    );
  });
});
