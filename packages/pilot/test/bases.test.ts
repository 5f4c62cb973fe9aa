import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { StorageAssignment } from "@hob/protocol";
import { acquire, BLOCK_BYTES, fsck, type HeadDocument, type ObjectStore, OrgKeys, type Ownership, sha256, Uploader } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { basesOf } from "../src/durability/bases.ts";
import { Durability } from "../src/durability/durability.ts";
import { repairStore } from "../src/durability/store-repair.ts";
import { VolumeUpload } from "../src/durability/volume-upload.ts";
import { type CheckpointRecord, initialState, Ledger, type LedgerState } from "../src/volume/ledger.ts";
import type { ThinVolume } from "../src/volume/thin-volume.ts";

const HEAD = new OrgKeys("org").sprite("s1").head;
const [base, old, x] = ["a", "b", "c"].map((digit) => digit.repeat(64)) as [string, string, string];
const log = { info: () => {}, warn: () => {}, error: () => {} };

const record = (id: string, thin: number, origin: string | null): CheckpointRecord => ({
  ...{ id, thin, origin: origin === null ? null : `map:${origin}` },
  ...{ createTime: "2026-01-01T00:00:00Z", comment: "", history: [], automatic: false, reason: null },
});

let folder = "";
let store: ObjectStore;
/** every head that was written, oldest first */
let heads: HeadDocument[];
let owned: Ownership;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "hob-bases-"));
  const directory = await DirectoryStore.open(join(folder));
  heads = [];
  store = new Proxy(directory, {
    get: (target, name) => {
      const put: ObjectStore["put"] = (key, data, options) => {
        if (key === HEAD) heads.push(JSON.parse(Buffer.from(data).toString()));
        return target.put(key, data, options);
      };
      const value = Reflect.get(target, name);
      return name === "put" ? put : typeof value === "function" ? value.bind(target) : value;
    },
  });
  const initial = { volumeBytes: 1000 * BLOCK_BYTES, root: base, storedBlocks: 1 };
  owned = await acquire({ store, org: "org", sprite: "s1", owner: "host", initial });
});
afterEach(() => rmSync(folder, { recursive: true }));

test("the maps that are read through are those of the volume, of what was uploaded, of checkpoints, and others that are asked for", () => {
  const state: LedgerState = {
    ...initialState,
    live: { thin: 1, history: [], origin: `map:${x}` },
    uploaded: { thin: 2, origin: `map:${old}`, root: "d".repeat(64) },
    checkpoints: [record("v1", 3, base), record("v2", 4, null), record("v3", 5, x)],
  };
  assert.deepEqual(basesOf(state), [base, old, x]);
  assert.deepEqual(basesOf(initialState), []);
  assert.deepEqual(basesOf(initialState, [null, `map:${x}`]), [x]);
  assert.throws(() => basesOf(initialState, ["disk:1"]), { code: "volume_unusable" });
});

describe("the heads of a sprite that was put over what the store has", () => {
  let ledger: Ledger;
  let opened: string[];
  let uploads = 0;
  /** while a state is being uploaded */
  let meanwhile: () => Promise<void>;
  let durability: Durability;
  const basesNow = () => heads.at(-1)?.bases ?? [];

  beforeEach(async () => {
    await owned.addCheckpoint({
      ...{ id: "v1", comment: "", createdAt: "2026-01-01T00:00:00Z", automatic: false },
      ...{ root: old, storedBlocks: 1 },
    });
    heads.length = 0;
    opened = [];
    meanwhile = async () => {};
    ledger = await Ledger.create(join(folder, "volumes.json"));
    await ledger.update((state) => ({
      ...state,
      basis: `map:${base}`,
      live: { thin: 1, history: [], origin: `map:${base}` },
      checkpoints: [record("v1", 2, old)],
    }));
    const pool = {
      snapshot: async () => {},
      async *changedBlocks() {},
      activateReadOnly: async () => ({ device: "/dev/null", [Symbol.asyncDispose]: async () => {} }),
    };
    const volume = {
      ...{
        ledger,
        pool,
        snapshotLive: async () => 0,
        takenOf: () => undefined,
        writtenAt: () => undefined,
        writtenSectors: async () => uploads,
      },
      ...{ resolveOrigin: async () => "/dev/null", reap: async () => {} },
    } as unknown as ThinVolume;
    const uploader = {
      upload: async () => {
        await meanwhile();
        return { root: sha256(Buffer.from(`upload ${uploads++}`)), storedBlocks: 1, stats: {}, startedAt: Date.now() };
      },
    } as unknown as Uploader;
    const upload = new VolumeUpload(
      volume,
      () => uploader,
      (snapshot) => snapshot(),
      () => opened,
    );
    const assignment: StorageAssignment = {
      ...{ organization: "org", spriteId: "s1", owner: "host", epoch: 1 },
      base: { root: base, volumeBytes: 1000 * BLOCK_BYTES },
    };
    durability = new Durability({ store, upload, log, intervalMs: 2 ** 30 });
    durability.assign(assignment);
    await durability.sync();
  });
  afterEach(() => durability[Symbol.asyncDispose]());

  /** As a restore of a checkpoint, with the checkpoint of the state before. */
  const restore = (origin: string): Promise<void> =>
    ledger.update((state) => ({
      ...state,
      live: { thin: 9, history: ["v1"], origin: `map:${origin}` },
      checkpoints: [...state.checkpoints, { ...record("auto-1", 8, null), origin: state.live.origin }],
    }));

  const forget = (...ids: string[]): Promise<void> =>
    ledger.update((state) => ({ ...state, checkpoints: state.checkpoints.filter(({ id }) => !ids.includes(id)) }));

  test("name what it reads through from the first upload on", () => {
    assert.notEqual(heads.at(-1)?.root, base);
    assert.deepEqual(basesNow(), [base, old]);
  });

  test("name the map of a checkpoint that it was restored to at every moment, also when that is deleted", async () => {
    await restore(old);
    await durability.sync();
    await forget("v1", "auto-1");
    heads.length = 0;
    await durability.sync();
    assert.ok(heads.length >= 3, "a head for each of the checkpoints, and one for the volume");
    assert.ok(heads.every(({ bases }) => bases?.includes(old)));
    assert.deepEqual([heads.at(-1)?.checkpoints, basesNow()], [[], [old]]);
  });

  test("name what an upload reads from that the ledger has come away from meanwhile, and what devices are open for", async () => {
    meanwhile = async () => {
      await restore(old);
      await forget("v1", "auto-1");
      opened = [`map:${x}`];
      meanwhile = async () => {};
    };
    // What was uploaded before does not name it either.
    await ledger.update((state) => ({ ...state, uploaded: null }));
    await durability.sync();
    assert.deepEqual([ledger.state.uploaded?.origin, ledger.state.live.origin], [`map:${base}`, `map:${old}`]);
    assert.deepEqual(basesNow(), [base, old, x]);
    opened = [];
    await durability.sync();
    await durability.sync();
    assert.deepEqual(basesNow(), [old]);
  });
});

test("a repair names the new maps before the ledger has come to them, and the old ones until then", async () => {
  const blocks = [0, 1, 2].map((seed) => Buffer.alloc(BLOCK_BYTES, `block ${seed}`));
  const upload = async (root: string | null, block: number, seed: number) =>
    await new Uploader({ store, org: "org" }).upload(
      root,
      (async function* () {
        yield { block, data: blocks[seed] as Buffer };
      })(),
    );
  const first = (await upload(null, 0, 0)).root ?? assert.fail();
  const v1 = { id: "v1", comment: "", createdAt: "2026-01-01T00:00:00Z", automatic: false, root: first, storedBlocks: 1 };
  await owned.addCheckpoint(v1);
  const newest = await upload(first, 1, 1);
  await owned.publish({ root: newest.root, storedBlocks: newest.storedBlocks });
  const ledger = await Ledger.create(join(folder, "volumes.json"));
  await ledger.update((state) => ({
    ...state,
    live: { thin: 1, history: [], origin: `map:${first}` },
    checkpoints: [record("v1", 2, first)],
    uploaded: { thin: 3, origin: `map:${first}`, root: newest.root },
  }));
  let named: readonly string[] = [];
  const again = { store, org: "org", sprite: "s1", owner: "host", bases: () => basesOf(ledger.state, named) };
  const ownership = await acquire(again);
  for (const { key } of (await store.list(new OrgKeys("org").packs)).objects) await store.delete(key);
  const kept = new Map(blocks.map((block) => [sha256(block), block]));
  heads.length = 0;
  const damage = (await fsck({ store, org: "org" })).damage;
  await repairStore(
    {
      ...{ store, organization: "org", volume: { ledger } as unknown as ThinVolume, pages: { cached: () => undefined } },
      durability: { exclusively: (work) => work(ownership), sync: () => assert.fail("nothing is ahead") },
      name: (origins) => {
        named = origins;
      },
      cache: { get: async (hash: string) => kept.get(hash), put: async () => {} },
    },
    { damage },
  );
  const repaired = (await ownership.readCheckpoint("v1")).root;
  assert.notEqual(repaired, first);
  assert.deepEqual([ledger.state.live.origin, ledger.state.uploaded?.root], [`map:${repaired}`, ownership.head.root]);
  assert.deepEqual(
    heads.map(({ bases }) => bases),
    [[first, repaired, ownership.head.root].sort(), [repaired]],
  );
});
