import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { acquire, BLOCK_BYTES, sha256 } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { Durability, type DurabilityParts } from "../src/durability/durability.ts";
import { LocalSource } from "../src/durability/local-source.ts";
import { withRoots } from "../src/durability/store-repair.ts";
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
  const nothing = { ledger: { state: initialState, find: () => undefined } } as unknown as ConstructorParameters<typeof LocalSource>[0];

  test("is in the cache, when that is right", async () => {
    const kept = new Map([[sha256(content), content]]);
    const cache = { get: async (hash: string) => kept.get(hash), put: async () => {} };
    await using source = new LocalSource(nothing, cache);
    assert.equal(await source.chunk(sha256(content), 0, null), content);
    kept.set(sha256(content), Buffer.alloc(BLOCK_BYTES, "another"));
    assert.equal(await source.chunk(sha256(content), 0, null), undefined);
  });

  test("is nothing of a state that it does not know, nor of a device that cannot be had", async () => {
    await using source = new LocalSource(nothing, undefined);
    assert.equal(await source.chunk(sha256(content), 0, "v1"), undefined);
    const ledger = { state: initialState, find: () => record("v1", 1, `map:${a}`) };
    const broken = { ledger, resolveOrigin: () => Promise.reject(new Error("no device")) };
    await using other = new LocalSource(broken as unknown as ConstructorParameters<typeof LocalSource>[0], undefined);
    assert.equal(await other.chunk(sha256(content), 0, "v1"), undefined);
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
      isFor: () => true,
      writtenMark: async () => String(uploads),
      live: async () => {
        const number = uploads++;
        events.push(`upload ${number} begins`);
        begun[number]?.resolve();
        await uploading[number]?.promise;
        events.push(`upload ${number} ends`);
        const result = { root: null, storedBlocks: 0, stats: {}, startedAt: Date.now() };
        return { result, history: [], written: String(number), keep: async () => {}, [Symbol.asyncDispose]: async () => {} };
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
