import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { OrgKeys } from "../src/format/keys.ts";
import { BLOCK_BYTES, MAX_BLOCKS, MAX_START_BLOCKS } from "../src/format/limits.ts";
import { collectGarbage, GC_GRACE_MS } from "../src/maintenance/gc.ts";
import { acquire } from "../src/ownership/acquire.ts";
import { forkSprite } from "../src/ownership/fork.ts";
import { readStart, writeStart } from "../src/start-record.ts";
import { SpriteStore } from "../src/store/sprite-store.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const ORG = "org";
const keys = new OrgKeys(ORG).sprite("s1");
const start = { blocks: [7, 8, 1], untilReady: 2 };
const own = (store: MemoryStore) =>
  acquire({ store, org: ORG, sprite: "s1", owner: "host", initial: { volumeBytes: 100 * BLOCK_BYTES }, takeOver: true });

describe("the record of a start", () => {
  it("keeps the blocks in their order, as many as it may", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(MAX_BLOCKS - 1), { maxLength: 2 * MAX_START_BLOCKS, size: "max" }),
        fc.nat(600),
        async (blocks, ready) => {
          const store = new MemoryStore();
          const untilReady = Math.min(ready, blocks.length);
          await writeStart(store, keys, "s1", { blocks, untilReady });
          const kept = { blocks: blocks.slice(0, MAX_START_BLOCKS), untilReady: Math.min(untilReady, MAX_START_BLOCKS) };
          assert.deepEqual(await readStart(store, keys), kept);
        },
      ),
      { numRuns: 50 },
    ));

  it("is none when it is missing, or when a byte of it is wrong", async () => {
    const store = new MemoryStore();
    assert.equal(await readStart(store, keys), undefined);
    await writeStart(store, keys, "s1", { blocks: [3, 4, 5, 1], untilReady: 0 });
    const held = store.objects.get(keys.start)?.data ?? assert.fail();
    const text = held.toString();
    const reads = text.indexOf('"reads"');
    for (let at = reads; at < held.length; at++) {
      const damaged = Buffer.from(held);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
      await store.put(keys.start, damaged);
      const start = await readStart(store, keys);
      // The line's end may become a blank, and a number another; no block becomes another.
      assert.deepEqual(start?.blocks ?? [3, 4, 5, 1], [3, 4, 5, 1], `byte ${at}`);
    }
    await store.put(keys.start, held.subarray(0, 50));
    assert.equal(await readStart(store, keys), undefined);
  });

  it("is written by the sprite itself, about itself alone", async () => {
    const inner = new MemoryStore();
    await own(inner);
    const store = new SpriteStore(inner, { org: ORG, sprite: "s1", owner: "host", epoch: 1 });
    await writeStart(store, keys, "s1", start);
    assert.deepEqual(await readStart(store, keys), start);
    await assert.rejects(writeStart(store, keys, "s2", start), rejectsWith("invalid_request"));
    await assert.rejects(writeStart(store, new OrgKeys(ORG).sprite("s2"), "s2", start), rejectsWith("invalid_request"));
    await assert.rejects(store.put(keys.start, Buffer.from("{}")), rejectsWith("invalid_request"));
    await assert.rejects(store.put(keys.start, Buffer.alloc(5 * 1024 * 1024)), rejectsWith("invalid_request"));
  });

  it("goes to forks, and goes with the sprite", async () => {
    const store = new MemoryStore();
    const owned = await own(store);
    await writeStart(store, keys, "s1", start);
    const fork = await forkSprite({ store, org: ORG, source: "s1", sprite: "f1", owner: "host" });
    assert.deepEqual(await readStart(store, fork.keys), start);
    await owned.destroy();
    assert.equal(store.objects.has(keys.start), false);
    // One that a pilot of another host wrote when the sprite was gone already.
    await writeStart(store, keys, "s1", start);
    store.now = () => Date.now() + GC_GRACE_MS + 1000;
    assert.equal((await collectGarbage({ store, org: ORG })).deletedDocuments, 1);
    assert.equal(store.objects.has(keys.start), false);
    assert.deepEqual(await readStart(store, fork.keys), start);
  });
});
