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
const own = (store: MemoryStore) =>
  acquire({ store, org: ORG, sprite: "s1", owner: "host", initial: { volumeBytes: 100 * BLOCK_BYTES }, takeOver: true });

describe("the record of a start", () => {
  it("keeps the blocks in their order, as many as it may", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.nat(MAX_BLOCKS - 1), { maxLength: 2 * MAX_START_BLOCKS, size: "max" }), async (blocks) => {
        const store = new MemoryStore();
        await writeStart(store, keys, "s1", blocks);
        assert.deepEqual(await readStart(store, keys), blocks.slice(0, MAX_START_BLOCKS));
      }),
      { numRuns: 50 },
    ));

  it("is none when it is missing, or when a byte of it is wrong", async () => {
    const store = new MemoryStore();
    assert.deepEqual(await readStart(store, keys), []);
    await writeStart(store, keys, "s1", [3, 4, 5, 1]);
    const held = store.objects.get(keys.start)?.data ?? assert.fail();
    const text = held.toString();
    const reads = text.indexOf('"reads"');
    for (let at = reads; at < held.length; at++) {
      const damaged = Buffer.from(held);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
      await store.put(keys.start, damaged);
      const blocks = await readStart(store, keys);
      // The line's end may become a blank.
      assert.ok(blocks.length === 0 || at === held.length - 1, `byte ${at}: ${blocks}`);
    }
    await store.put(keys.start, held.subarray(0, 50));
    assert.deepEqual(await readStart(store, keys), []);
  });

  it("is written by the sprite itself, about itself alone", async () => {
    const inner = new MemoryStore();
    await own(inner);
    const store = new SpriteStore(inner, { org: ORG, sprite: "s1", owner: "host", epoch: 1 });
    await writeStart(store, keys, "s1", [1]);
    assert.deepEqual(await readStart(store, keys), [1]);
    await assert.rejects(writeStart(store, keys, "s2", [1]), rejectsWith("invalid_request"));
    await assert.rejects(writeStart(store, new OrgKeys(ORG).sprite("s2"), "s2", [1]), rejectsWith("invalid_request"));
    await assert.rejects(store.put(keys.start, Buffer.from("{}")), rejectsWith("invalid_request"));
    await assert.rejects(store.put(keys.start, Buffer.alloc(5 * 1024 * 1024)), rejectsWith("invalid_request"));
  });

  it("goes to forks, and goes with the sprite", async () => {
    const store = new MemoryStore();
    const owned = await own(store);
    await writeStart(store, keys, "s1", [7, 8]);
    const fork = await forkSprite({ store, org: ORG, source: "s1", sprite: "f1", owner: "host" });
    assert.deepEqual(await readStart(store, fork.keys), [7, 8]);
    await owned.destroy();
    assert.equal(store.objects.has(keys.start), false);
    // One that a pilot of another host wrote when the sprite was gone already.
    await writeStart(store, keys, "s1", [1]);
    store.now = () => Date.now() + GC_GRACE_MS + 1000;
    assert.equal((await collectGarbage({ store, org: ORG })).deletedDocuments, 1);
    assert.equal(store.objects.has(keys.start), false);
    assert.deepEqual(await readStart(store, fork.keys), [7, 8]);
  });
});
