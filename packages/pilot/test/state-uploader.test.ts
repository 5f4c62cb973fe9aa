import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, test } from "node:test";
import { OrgKeys, PageStore } from "@hob/storage";
import type { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { originOf } from "../src/durability/origin-name.ts";
import { StateUploader } from "../src/durability/state-uploader.ts";
import type { VolumeUpload } from "../src/durability/volume-upload.ts";
import { Ledger } from "../src/volume/ledger.ts";
import { blockOf, lettersIn, StoredVolume, thinOf } from "./support/stored-volume.ts";

let model: StoredVolume;
let store: DirectoryStore;
let ledger: Ledger;
let upload: VolumeUpload;

beforeEach(async () => {
  model = new StoredVolume();
  store = await model.openStore();
  ledger = await Ledger.create(model.ledgerPath);
  upload = model.upload(model.volume(ledger), store);
  upload.isFor({ organization: "org", spriteId: "s1", owner: "host", epoch: 1 });
});
afterEach(() => model[Symbol.dispose]());

/** Brings the live volume into the store. */
async function uploadLive() {
  await using uploaded = await upload.live({});
  await uploaded.keep();
  return uploaded.result;
}

describe("an upload after the snapshot of the one before was given up", () => {
  test("reads all, sends what changed, and forgets what was discarded", async () => {
    model.live = thinOf("abcdef");
    const first = await uploadLive();
    assert.equal(first.stats.packs, 1);
    assert.equal(await upload.giveUp(), true);
    assert.equal(await upload.giveUp(), false, "there is none any more");
    assert.deepEqual([ledger.state.uploaded?.thin, ledger.state.uploaded?.root], [null, first.root]);
    assert.deepEqual(upload.bases(), [first.root], "what it builds on is named");
    assert.equal((await Ledger.open(model.ledgerPath)).state.uploaded?.thin, null);
    model.live = thinOf("aBc.efa");
    const { root, stats } = await uploadLive();
    assert.equal(await lettersIn(store, root), "aBc.efa.");
    assert.deepEqual(
      model.compared.map(([from]) => from),
      [undefined, undefined],
    );
    assert.deepEqual([stats.blocks, stats.reusedBlocks], [6, 5]);
    assert.equal(await lettersIn(store, first.root), "abcdef..");
    model.live = thinOf("aBC.efa");
    const { stats: next } = await uploadLive();
    assert.deepEqual([next.blocks, model.compared.at(-1)?.[0] === undefined], [1, false], "it is compared with a snapshot again");
  });

  test("reads nothing of what the volume lies over", async () => {
    model.live = model.below = thinOf("vwxyz");
    const base = (await uploadLive()).root;
    model.live = thinOf("VW");
    await ledger.update((state) => ({ ...state, uploaded: null, live: { ...state.live, origin: originOf(base) } }));
    await uploadLive();
    await upload.giveUp();
    model.live = thinOf(".WX");
    const { root, stats } = await uploadLive();
    assert.equal(await lettersIn(store, root), "vWXyz...");
    assert.deepEqual([stats.blocks, stats.reusedBlocks], [2, 1]);
  });

  test("sends a chunk again whose pack is gone", async () => {
    model.live = thinOf("a");
    await uploadLive();
    await upload.giveUp();
    for (const { key } of (await store.list(new OrgKeys("org").packs)).objects) await store.delete(key);
    assert.equal(await lettersIn(store, (await uploadLive()).root), "a.......");
  });

  test("is not needed while the snapshot is in use", async () => {
    model.live = thinOf("a");
    await uploadLive();
    model.live = thinOf("b");
    let given: Promise<boolean> | undefined;
    model.onCompare = () => {
      given = upload.giveUp();
    };
    const { root } = await uploadLive();
    assert.equal(await given, false);
    assert.equal(await lettersIn(store, root), "b.......");
    assert.equal(await upload.giveUp(), true);
  });
});

describe("an upload after a restore", () => {
  const V1 = { id: "v1", thin: 101, createTime: "", comment: "", automatic: false, reason: null, origin: null };
  let roots: Map<string, string | null>;
  let rootOf: (id: string) => Promise<string | null | undefined>;

  beforeEach(async () => {
    rootOf = async (id) => roots.get(id);
    model.live = thinOf("abcdef");
    await uploadLive();
    model.thins.set(V1.thin, new Map(model.live));
    const record = { ...V1, history: [] };
    await ledger.update((state) => ({ ...state, checkpoints: [record], live: { ...state.live, history: ["v1"] } }));
    await using uploaded = await upload.checkpoint(record, { rootOf });
    await uploaded.keep();
    roots = new Map([["v1", uploaded.result.root]]);
    model.live = thinOf("ABCDEF");
    await uploadLive();
    // The restore, and one block that is written then.
    await ledger.update((state) => ({ ...state, live: { ...state.live, thin: 202 } }));
    model.live = thinOf("abXdef");
  });

  async function uploadRestored() {
    await using uploaded = await upload.live({ rootOf });
    await uploaded.keep();
    assert.equal(await lettersIn(store, uploaded.result.root), "abXdef..");
    return [uploaded.result.stats.blocks, model.compared.at(-1)?.[0] === V1.thin];
  }

  test("reads only what has changed since the checkpoint", async () => {
    assert.deepEqual(await uploadRestored(), [1, true]);
    model.live = thinOf("abXYef");
    assert.equal((await uploadLive()).stats.blocks, 1);
    assert.notEqual(model.compared.at(-1)?.[0], V1.thin, "the one after it is compared with that again");
  });

  test("reads all that differs from the last upload when the store does not have the checkpoint", async () => {
    roots.clear();
    assert.deepEqual(await uploadRestored(), [6, false]);
  });

  test("goes on without the checkpoint when that is deleted meanwhile", async () => {
    const root = roots.get("v1") ?? null;
    rootOf = async () => {
      await ledger.update((state) => ({ ...state, checkpoints: [] }));
      model.thins.delete(V1.thin);
      return root;
    };
    assert.deepEqual(await uploadRestored(), [6, false]);
  });

  test("goes on without the checkpoint when that is given back in part while it is compared", async () => {
    model.live = thinOf("abX.ef");
    const root = roots.get("v1") ?? null;
    rootOf = async () => {
      await ledger.update((state) => ({ ...state, checkpoints: [] }));
      model.thins.set(V1.thin, thinOf("ab"));
      return root;
    };
    await using uploaded = await upload.live({ rootOf });
    assert.equal(await lettersIn(store, uploaded.result.root), "abX.ef..");
  });

  test("of a checkpoint that was deleted before its snapshot was taken for it brings nothing", async () => {
    const record = ledger.find("v1") ?? assert.fail();
    await ledger.update((state) => ({ ...state, checkpoints: [] }));
    model.thins.set(V1.thin, thinOf("ab"));
    const thins = model.thins.size;
    await assert.rejects(upload.checkpoint(record, { rootOf }), { code: "not_found" });
    assert.equal(ledger.state.uploading, null);
    assert.equal(model.thins.size, thins, "the snapshot is removed");
  });

  test("goes on without the checkpoint when its map is not whole in the store", async () => {
    for (const { key } of (await store.list(new OrgKeys("org").maps)).objects)
      if (key.includes(roots.get("v1") ?? "?")) await store.delete(key);
    assert.deepEqual(await uploadRestored(), [6, false]);
  });
});

test("what was sent before is not found any more when it is to be forgotten", async () => {
  const uploader = new StateUploader({ store, org: "org", pages: new PageStore({ store, org: "org" }) });
  const send = async (block: number) => (await uploader.upload(null, Readable.from([{ block, data: blockOf("a") }]), {})).stats;
  assert.equal((await send(0)).packs, 1);
  assert.equal((await send(1)).packs, 0);
  uploader.forget();
  assert.equal((await send(2)).packs, 1);
});

test("of the snapshot before, only what has changed since is given back", async () => {
  model.live = thinOf("abcd");
  await uploadLive();
  assert.deepEqual(model.givenBack, [], "the first was compared with none");
  model.live = thinOf("aB.dE");
  await uploadLive();
  assert.deepEqual(model.givenBack, [[1, 2, 4]]);
});

test("an upload does not build on a map that is not whole in the store any more, and sends what it has anew", async () => {
  model.live = thinOf("abcd");
  await uploadLive();
  for (const prefix of [new OrgKeys("org").maps, new OrgKeys("org").packs])
    for (const { key } of (await store.list(prefix)).objects) await store.delete(key);
  model.live = thinOf("aB.d");
  const { root } = await uploadLive();
  assert.equal(await lettersIn(store, root), "aB.d....");
  model.live = thinOf("aB.D");
  assert.equal(await lettersIn(store, (await uploadLive()).root), "aB.D....");
  assert.deepEqual(
    model.compared.map(([from]) => from === undefined),
    [true, false, true, false],
  );
});
