import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { BLOCK_BYTES, BlockReader, OrgKeys, PageStore } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { originOf } from "../src/durability/origin-name.ts";
import { StateUploader } from "../src/durability/state-uploader.ts";
import { VolumeUpload } from "../src/durability/volume-upload.ts";
import { Ledger } from "../src/volume/ledger.ts";
import type { ChangedRange } from "../src/volume/thin-delta.ts";
import type { ThinVolume } from "../src/volume/thin-volume.ts";

const BLOCKS = 8;

/** A thin device: what was written to each of its blocks. */
type Thin = ReadonlyMap<number, string>;

let folder: string;
let store: DirectoryStore;
let ledger: Ledger;
let upload: VolumeUpload;
/** as the live volume is written to */
let live: Thin;
/** what the live volume reads through to */
let below: Thin;
let thins: Map<number, Thin>;
/** snapshots that were compared */
let compared: [from: number | undefined, to: number][];
/** told when the first block is read */
let onCompare: () => void;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "hob-uploader-"));
  store = await DirectoryStore.open(join(folder, "store"));
  ledger = await Ledger.create(join(folder, "volumes.json"));
  [live, below, thins, compared, onCompare] = [new Map(), new Map(), new Map(), [], () => {}];
  const contentOf = (thin: Thin, block: number) => Buffer.alloc(BLOCK_BYTES, thin.get(block) ?? below.get(block) ?? "\0");
  const pool = {
    async *changedBlocks(from: number | undefined, to: number): AsyncGenerator<ChangedRange> {
      compared.push([from, to]);
      onCompare();
      const [before, after] = [from === undefined ? new Map() : (thins.get(from) ?? assert.fail()), thins.get(to) ?? assert.fail()];
      for (let block = 0; block < BLOCKS; block++) {
        if (before.get(block) !== after.get(block)) yield { begin: block, length: 1, mapped: after.has(block) };
      }
    },
    activateReadOnly: async (thin: number) => {
      const device = join(folder, `thin-${thin}`);
      const content = thins.get(thin) ?? assert.fail();
      writeFileSync(device, Buffer.concat(Array.from({ length: BLOCKS }, (_, block) => contentOf(content, block))));
      return { device, [Symbol.asyncDispose]: async () => {} };
    },
  };
  const snapshotLive = async (thin: number) => void thins.set(thin, new Map(live));
  const reap = async () => {
    for (const thin of ledger.garbage()) thins.delete(thin);
  };
  const volume = { ledger, pool, snapshotLive, reap, writtenAt: () => undefined, resolveOrigin: async () => "/dev/null" };
  const pages = new PageStore({ store, org: "org" });
  upload = new VolumeUpload(
    volume as unknown as ThinVolume,
    // Each time another: what one remembers of the last hour must not be what finds the chunks.
    (org) => ({ upload: (...state) => new StateUploader({ store, org, pages }).upload(...state) }),
    (snapshot) => snapshot(),
    () => [],
  );
  upload.isFor({ organization: "org", spriteId: "s1", owner: "host", epoch: 1 });
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Brings the live volume into the store. */
async function uploadLive() {
  await using uploaded = await upload.live({});
  await uploaded.keep();
  return uploaded.result;
}

async function contentIn(root: string | null): Promise<string[]> {
  const reader = new BlockReader({ store, org: "org", root });
  const data = await reader.readRange(0, BLOCKS * BLOCK_BYTES);
  return Array.from({ length: BLOCKS }, (_, block) => String.fromCharCode(data[block * BLOCK_BYTES] ?? 0).replace("\0", "."));
}

describe("an upload after the snapshot of the one before was given up", () => {
  test("reads all, sends what changed, and forgets what was discarded", async () => {
    live = new Map([..."abcdef"].map((content, block) => [block, content]));
    const first = await uploadLive();
    assert.equal(first.stats.packs, 1);
    assert.equal(await upload.giveUp(), true);
    assert.equal(await upload.giveUp(), false, "there is none any more");
    assert.deepEqual([ledger.state.uploaded?.thin, ledger.state.uploaded?.root], [null, first.root]);
    assert.deepEqual(upload.bases(), [first.root], "what it builds on is named");
    assert.equal((await Ledger.open(join(folder, "volumes.json"))).state.uploaded?.thin, null);
    live = new Map([...live, [1, "B"], [6, "a"]]);
    (live as Map<number, string>).delete(3);
    const { root, stats } = await uploadLive();
    assert.deepEqual(await contentIn(root), [..."aBc.efa."]);
    assert.deepEqual(
      compared.map(([from]) => from),
      [undefined, undefined],
    );
    assert.deepEqual([stats.blocks, stats.reusedBlocks], [6, 5]);
    const before = await contentIn(first.root);
    assert.deepEqual(before, [..."abcdef.."]);
    live = new Map([...live, [2, "C"]]);
    const { stats: next } = await uploadLive();
    assert.deepEqual([next.blocks, compared.at(-1)?.[0] === undefined], [1, false], "it is compared with a snapshot again");
  });

  test("reads nothing of what the volume lies over", async () => {
    below = new Map([..."vwxyz"].map((content, block) => [block, content]));
    live = below;
    const base = (await uploadLive()).root;
    live = new Map([
      [0, "V"],
      [1, "W"],
    ]);
    await ledger.update((state) => ({ ...state, uploaded: null, live: { ...state.live, origin: originOf(base) } }));
    await uploadLive();
    await upload.giveUp();
    live = new Map([
      [1, "W"],
      [2, "X"],
    ]);
    const { root, stats } = await uploadLive();
    assert.deepEqual(await contentIn(root), [..."vWXyz..."]);
    assert.deepEqual([stats.blocks, stats.reusedBlocks], [2, 1]);
  });

  test("sends a chunk again whose pack is gone", async () => {
    live = new Map([[0, "a"]]);
    await uploadLive();
    await upload.giveUp();
    for (const { key } of (await store.list(new OrgKeys("org").packs)).objects) await store.delete(key);
    assert.deepEqual(await contentIn((await uploadLive()).root), [..."a......."]);
  });

  test("is not needed while the snapshot is in use", async () => {
    live = new Map([[0, "a"]]);
    await uploadLive();
    live = new Map([[0, "b"]]);
    let given: Promise<boolean> | undefined;
    onCompare = () => {
      given = upload.giveUp();
    };
    const { root } = await uploadLive();
    assert.equal(await given, false);
    assert.deepEqual(await contentIn(root), [..."b......."]);
    assert.equal(await upload.giveUp(), true);
  });
});
