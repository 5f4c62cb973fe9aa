import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sha256 } from "../src/format/hash.ts";
import { BLOCK_BYTES } from "../src/format/limits.ts";
import { acquire, resumeOwnership } from "../src/ownership/acquire.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { SpriteStore } from "../src/store/sprite-store.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { blockOf, changesOf } from "./support/blocks.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const refused = rejectsWith("invalid_request");

async function confined(): Promise<{ inner: MemoryStore; store: SpriteStore }> {
  const inner = new MemoryStore();
  for (const sprite of ["s1", "s2"])
    await acquire({ store: inner, org: "org", sprite, owner: "host", initial: { volumeBytes: BLOCK_BYTES * 100 } });
  return { inner, store: new SpriteStore(inner, { org: "org", sprite: "s1", owner: "host", epoch: 1 }) };
}

describe("the store that a sprite sees", () => {
  it("is enough for uploads, checkpoints and reads", async () => {
    const { store } = await confined();
    const owned = await resumeOwnership({ store, org: "org", sprite: "s1", owner: "host", epoch: 1 });
    const { root, storedBlocks } = await new Uploader({ store, org: "org" }).upload(
      null,
      changesOf([
        [0, 3],
        [1, 4],
      ]),
    );
    await owned.addCheckpoint(
      { id: "v1", comment: "", createdAt: new Date().toISOString(), root, storedBlocks, automatic: false },
      { root, storedBlocks },
    );
    assert.ok((await new BlockReader({ store, org: "org", root }).read(1)).equals(blockOf(4)));
    assert.equal((await store.list("orgs/org/sprites/s1/")).objects.length, 2);
    await owned.deleteCheckpoint("v1");
    assert.equal((await store.list("orgs/org/sprites/s1/")).objects.length, 1);
  });

  it("holds nothing of other sprites, and no lists of packs and pages", async () => {
    const { store } = await confined();
    for (const key of [
      "orgs/org/sprites/s2/head.json",
      "orgs/org/gc.json",
      "orgs/other/packs/x",
      "orgs/org/packs/x",
      `orgs/other/packs/${"0".repeat(64)}`,
      "orgs/org/sprites/s10/head.json",
      "x",
    ]) {
      await assert.rejects(store.get(key), refused, key);
      await assert.rejects(store.head(key), refused, key);
      await assert.rejects(store.put(key, Buffer.from("x")), refused, key);
      await assert.rejects(store.delete(key), refused, key);
    }
    for (const prefix of ["", "orgs/org/", "orgs/org/packs/", "orgs/org/sprites/", "orgs/org/sprites/s1", "orgs/org/sprites/s2/"])
      await assert.rejects(store.list(prefix), refused, prefix);
  });

  it("takes packs and pages only for what they are, and gives none away", async () => {
    const { store } = await confined();
    const data = Buffer.from("content");
    await store.put(`orgs/org/packs/${sha256(data)}`, data);
    await assert.rejects(store.put(`orgs/org/packs/${"0".repeat(64)}`, data), refused);
    await assert.rejects(store.put(`orgs/org/maps/${"0".repeat(64)}`, data), refused);
    await assert.rejects(store.delete(`orgs/org/packs/${sha256(data)}`), refused);
  });

  it("keeps head, description and documents as the host and the format want them", async () => {
    const { inner, store } = await confined();
    const key = "orgs/org/sprites/s1/head.json";
    const { data, etag } = (await store.get(key)) ?? { data: Buffer.alloc(0), etag: "" };
    const head = JSON.parse(data.toString());
    const put = (change: object, condition: object = { ifMatch: etag }) =>
      store.put(key, Buffer.from(JSON.stringify({ ...head, ...change })), { condition: condition as { ifMatch: string } });
    for (const change of [{ epoch: 2 }, { owner: "other" }, { sprite: "s2" }, { root: "x" }]) await assert.rejects(put(change), refused);
    await assert.rejects(put({}, { ifNoneMatch: "*" }), refused);
    await assert.rejects(store.put(key, data), refused);
    await assert.rejects(store.delete(key), refused);
    await assert.rejects(store.put("orgs/org/sprites/s1/sprite.json", Buffer.from("{}")), refused);
    await assert.rejects(store.put("orgs/org/sprites/s1/checkpoints/v1.0123456789abcdef.json", Buffer.from("{}")), refused);
    await put({ storedBlocks: 0 });
    assert.equal([...inner.objects.keys()].filter((one) => one.includes("/s1/")).length, 1);
  });

  it("takes the host's word for conditional writes", async () => {
    const { inner, store } = await confined();
    assert.deepEqual(await store.probe(), { conditionalWrites: true });
    assert.ok(![...inner.objects.keys()].some((key) => key.startsWith("probe/")));
  });
});
