import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { acquire, type ObjectStore, OrgKeys, type Ownership, readHead } from "@hob/storage";
import { openStore } from "@hob/storage/store/open-store.ts";
import { Durability } from "../src/durability/durability.ts";
import { StoredStates } from "../src/durability/stored-states.ts";
import type { VolumeUpload } from "../src/durability/volume-upload.ts";
import { CheckpointTrees, type TreeParts } from "../src/history/trees.ts";
import type { CheckpointRecord } from "../src/volume/ledger.ts";

const ORG = "org";
const SPRITE = "s1";
const ROOT = "a".repeat(64);
const OLD_ROOT = "b".repeat(64);

let folder = "";
let store: ObjectStore;
let owned: Ownership;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "pilot-stored-"));
  store = await openStore(`dir:${folder}`, {});
  owned = await acquire({ store, org: ORG, sprite: SPRITE, owner: "host", initial: { volumeBytes: 65_536, root: ROOT } });
  const checkpoint = {
    id: "v1",
    comment: "first",
    createdAt: new Date(0).toISOString(),
    automatic: false,
    root: OLD_ROOT,
    storedBlocks: 1,
  };
  await owned.addCheckpoint(checkpoint);
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("what a reader shows", () => {
  const made: number[] = [];
  const states = () => {
    made.length = 0;
    let next = 40;
    const volume = { ledger: { reserveThin: async () => next++ }, pool: { createThin: async (thin: number) => void made.push(thin) } };
    return new StoredStates({ store, volume, history: { organization: ORG, spriteId: SPRITE, root: ROOT } });
  };

  test("the newest state and checkpoints, each an empty device over its map that is made once", async () => {
    const stored = states();
    const [current, v1] = [await stored.find("Current"), await stored.find("v1")];
    assert.deepEqual([current?.id, current?.thin, current?.origin], ["Current", 40, `map:${ROOT}`]);
    assert.deepEqual([v1?.id, v1?.thin, v1?.origin, v1?.comment], ["v1", 41, `map:${OLD_ROOT}`, "first"]);
    assert.deepEqual([await stored.find("Current"), await stored.find("v1"), made], [current, v1, [40, 41]]);
  });

  test("not what the store does not have", async () => {
    const stored = states();
    assert.equal(await stored.find("v2"), undefined);
    assert.deepEqual(made, []);
    await store.delete(new OrgKeys(ORG).sprite(SPRITE).head);
    await assert.rejects(stored.find("v1"), { code: "not_found" });
  });

  test("in place of its own volume: neither its ledger nor its live state is looked at", async () => {
    const lent: (readonly [string, string | null])[] = [];
    const stored = states();
    const parts = {
      checkpoints: { exclusively: <T>(work: () => Promise<T>) => work() },
      mounts: { lend: async ({ id, origin }: CheckpointRecord) => void lent.push([id, origin]), giveBack: () => {} },
      volume: undefined,
      store: { stored },
      onError: () => {},
    } as unknown as TreeParts;
    const trees = new CheckpointTrees(parts);
    assert.equal((await trees.open("current")).inside, "/.sprite/checkpoints/Current");
    await trees.open("v1");
    await assert.rejects(trees.open("v9"), { code: "not_found" });
    assert.deepEqual(lent, [
      ["Current", `map:${ROOT}`],
      ["v1", `map:${OLD_ROOT}`],
    ]);
  });
});

describe("whether the store has all that there is here", () => {
  const result = { root: ROOT, storedBlocks: 1, startedAt: Date.now(), stats: { blocks: 0, bytesUploaded: 0 } };
  let written = "0:1";
  let here = [{ id: "v1", history: [] as string[] }];
  const upload = {
    bases: () => [],
    isFor: () => true,
    writtenMark: async () => written,
    get checkpoints() {
      return here;
    },
    live: async () => ({ result, history: [], undo: null, written, keep: async () => {}, [Symbol.asyncDispose]: async () => {} }),
  } as unknown as VolumeUpload;
  const log = { info: () => {}, warn: () => {}, error: () => {} };

  test("it has after an upload, until something is written, taken or deleted, or another volume is in place", async () => {
    const { epoch } = owned;
    await using durability = new Durability({ store, upload, log, intervalMs: 2 ** 30 });
    assert.equal(await durability.storedAs(), undefined, "without a store");
    durability.assign({ organization: ORG, spriteId: SPRITE, owner: "host", epoch });
    await durability.sync();
    const head = (await readHead(store, new OrgKeys(ORG).sprite(SPRITE).head))?.head;
    const isStored = async () => (await durability.storedAs()) !== undefined;
    assert.equal(await durability.storedAs(), head?.writeId);
    written = "0:2";
    assert.ok(!(await isStored()));
    written = "1:1";
    assert.ok(!(await isStored()));
    written = "0:1";
    assert.ok(await isStored());
    here = [];
    assert.ok(!(await isStored()), "a checkpoint was deleted");
    here = [
      { id: "v1", history: [] },
      { id: "v2", history: [] },
    ];
    assert.ok(!(await isStored()), "one was taken");
    here = [{ id: "v2", history: [] }];
    assert.ok(!(await isStored()), "both");
    here = [{ id: "v1", history: [] }];
    assert.ok(await isStored());
    durability.assign({ organization: ORG, spriteId: SPRITE, owner: "host", epoch: epoch + 1 });
    assert.ok(!(await isStored()), "nothing is known of another epoch");
  });
});
