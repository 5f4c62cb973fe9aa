import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { encodeDocument } from "../src/format/documents.ts";
import { BLOCK_BYTES, MAX_BASES } from "../src/format/limits.ts";
import { readHead } from "../src/heads.ts";
import { fsck } from "../src/maintenance/fsck.ts";
import { collectGarbage, GC_GRACE_MS } from "../src/maintenance/gc.ts";
import type { MapRoot } from "../src/map/chunk-ref.ts";
import { acquire, resumeOwnership } from "../src/ownership/acquire.ts";
import { forkSprite } from "../src/ownership/fork.ts";
import type { Ownership } from "../src/ownership/ownership.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { blockOf, changesOf } from "./support/blocks.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const ORG = "org";
const CHECKPOINT = { comment: "", createdAt: "2026-01-02T03:04:05Z", storedBlocks: 1, automatic: false };
const [a, b, c] = ["a", "b", "c"].map((digit) => digit.repeat(64)) as [string, string, string];

let store: MemoryStore;
let bases: string[];
let owned: Ownership;

/** The sprite as its pilot has it: with a machine that says what it reads through. */
const asPilot = (epoch = 1): Promise<Ownership> =>
  resumeOwnership({ store, org: ORG, sprite: "s1", owner: "host", epoch, bases: () => bases });

/** @returns the root before */
async function write(changes: [number, number][]): Promise<MapRoot> {
  const before = owned.head.root;
  const { root, storedBlocks } = await new Uploader({ store, org: ORG }).upload(before, changesOf(changes));
  await owned.publish({ root, storedBlocks });
  return before;
}

const aDayLater = async (): Promise<void> => {
  const now = store.now();
  store.now = () => now + GC_GRACE_MS + 3_600_000;
  assert.deepEqual((await collectGarbage({ store, org: ORG })).damaged, []);
};

const written = async () => (await readHead(store, owned.keys.head))?.head;

beforeEach(async () => {
  store = new MemoryStore();
  bases = [];
  await acquire({ store, org: ORG, sprite: "s1", owner: "host", initial: { volumeBytes: 1000 * BLOCK_BYTES } });
  owned = await asPilot();
});

describe("a machine that reads through the map that it was started from", () => {
  it("finds all of it for as long as the heads name it, whatever the sprite's states are by then", async () => {
    await write([
      [0, 1],
      [1, 3],
    ]);
    const base = owned.head.root ?? assert.fail("nothing was written");
    bases = [base];
    // Two uploads: no state has the blocks any more that are read through the base.
    await write([[1, 5]]);
    await write([[0, 7]]);
    await aDayLater();
    const reader = () => new BlockReader({ store, org: ORG, root: base, cacheBytes: 0 });
    assert.ok((await reader().read(0)).equals(blockOf(1)));
    assert.ok((await reader().read(1)).equals(blockOf(3)));
    bases = [];
    await owned.publish({});
    await aDayLater();
    await assert.rejects(reader().read(0), rejectsWith("data_damaged"));
    assert.deepEqual((await fsck({ store, org: ORG })).damage, []);
  });

  it("hears of what is damaged in it alone, which is damage of no state", async () => {
    await write([
      [0, 1],
      [300, 3],
    ]);
    const base = owned.head.root ?? assert.fail("nothing was written");
    bases = [base];
    await write([[0, 5]]);
    assert.deepEqual((await fsck({ store, org: ORG })).warnings, []);
    store.objects.delete(`orgs/${ORG}/maps/${base}`);
    const { damage, warnings } = await fsck({ store, org: ORG });
    assert.deepEqual(damage, []);
    assert.deepEqual(
      warnings.map(({ key }) => key),
      [`orgs/${ORG}/maps/${base}`],
    );
    bases = [];
    await owned.publish({});
    assert.deepEqual((await fsck({ store, org: ORG })).warnings, []);
  });
});

describe("a base that is damaged", () => {
  it("keeps every pack and page, says whose it is, and is got rid of by a fork and the end of its sprite", async () => {
    await write([[0, 1]]);
    const base = owned.head.root ?? assert.fail("nothing was written");
    bases = [base];
    await write([[0, 5]]);
    await new Uploader({ store, org: ORG }).upload(null, changesOf([[7, 9]]));
    const now = store.now();
    store.now = () => now + GC_GRACE_MS + 3_600_000;
    const key = `orgs/${ORG}/maps/${base}`;
    store.objects.delete(key);
    const report = await collectGarbage({ store, org: ORG });
    assert.deepEqual([report.damaged, report.deletedPacks, report.deletedPages], [[key], 0, 0]);
    assert.deepEqual(report.holders, [{ key, sprite: "s1", checkpoint: null, isBase: true }]);
    await forkSprite({ store, org: ORG, sprite: "s2", owner: "host", source: "s1" });
    await owned.destroy();
    const after = await collectGarbage({ store, org: ORG });
    assert.deepEqual([after.damaged, after.holders], [[], []]);
    assert.ok(after.deletedPacks >= 2, "that of the base, and that of nobody");
    assert.deepEqual((await fsck({ store, org: ORG })).damage, []);
  });
});

describe("the bases in a head", () => {
  it("are asked for at every write of it, and leave out its own root", async () => {
    bases = [a, b];
    await owned.publish({ root: a });
    assert.deepEqual((await written())?.bases, [b]);
    await owned.addCheckpoint({ ...CHECKPOINT, id: "v1", root: a }, { root: c });
    assert.deepEqual((await written())?.bases, [a, b]);
    bases = [b];
    await owned.replaceCheckpoints([await owned.readCheckpoint("v1")]);
    assert.deepEqual((await written())?.bases, [b]);
    bases = [a];
    await owned.deleteCheckpoint("v1");
    assert.deepEqual((await written())?.bases, [a]);
    bases = [c];
    await owned.publish({});
    assert.ok(!("bases" in ((await written()) ?? {})));
  });

  it("are asked for again when a write has to be repeated", async () => {
    bases = [a];
    const put = store.put.bind(store);
    store.put = async (...args) => {
      if (bases[0] === b) return await put(...args);
      // Somebody writes the head in between, in the owner's name: what was asked for before is out of date.
      bases = [b];
      const other = await asPilot();
      await other.publish({ storedBlocks: 7 });
      return await put(...args);
    };
    await owned.publish({ root: c });
    assert.deepEqual([(await written())?.bases, (await written())?.storedBlocks, (await written())?.root], [[b], 7, c]);
  });

  it("stay when a host takes the sprite, until its machine names its own", async () => {
    bases = [a];
    await owned.publish({ root: c });
    const taken = await acquire({ store, org: ORG, sprite: "s1", owner: "host" });
    assert.deepEqual((await written())?.bases, [a]);
    await taken.publish({ storedBlocks: 2 });
    assert.deepEqual((await written())?.bases, [a]);
    bases = [b];
    owned = await asPilot(taken.epoch);
    await owned.publish({});
    assert.deepEqual((await written())?.bases, [b]);
  });

  it("are not those of its forks", async () => {
    await write([[0, 1]]);
    bases = [a];
    await write([[0, 3]]);
    const fork = await forkSprite({ store, org: ORG, source: "s1", sprite: "f1", owner: "host" });
    assert.deepEqual([fork.head.root, fork.head.bases], [owned.head.root, undefined]);
  });

  it("are as many as a sprite may have checkpoints, and what is in use besides", async () => {
    const names = Array.from({ length: MAX_BASES + 1 }, (_, number) => number.toString(16).padStart(64, "0"));
    assert.throws(() => encodeDocument({ ...owned.head, bases: names }), rejectsWith("invalid_request"));
    bases = names.slice(1);
    await owned.publish({ root: c });
    assert.equal((await written())?.bases?.length, MAX_BASES);
  });
});
