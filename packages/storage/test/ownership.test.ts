import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BLOCK_BYTES } from "../src/format/limits.ts";
import { listSprites, readSprite, writeSprite } from "../src/heads.ts";
import { acquire, resumeOwnership } from "../src/ownership/acquire.ts";
import { forkSprite } from "../src/ownership/fork.ts";
import { MAX_UPLOAD_AGE_MS, type NewCheckpoint } from "../src/ownership/types.ts";
import type { ObjectStore } from "../src/store/object-store.ts";
import { FaultyStore } from "./support/faulty-store.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { rejectsWith } from "./support/store-contract.ts";

const VOLUME = { volumeBytes: 1000 * BLOCK_BYTES };
const ROOTS = ["a", "b", "c", "d"].map((digit) => digit.repeat(64));
const HEAD = "orgs/org/sprites/s1/head.json";

const own = (store: ObjectStore, owner = "host-1", more: { takeOver?: boolean; sprite?: string } = {}) =>
  acquire({ store, org: "org", sprite: "s1", owner, initial: VOLUME, ...more });

const checkpoint = (id: string, root: string | null = ROOTS[0] ?? null): NewCheckpoint => ({
  id,
  comment: `comment of ${id}`,
  createdAt: "2026-01-02T03:04:05.678Z",
  root,
  storedBlocks: 5,
  automatic: false,
});

describe("ownership of a sprite", () => {
  it("begins with epoch 1 and grows by one each time", async () => {
    const store = new MemoryStore();
    const first = await own(store);
    assert.equal(first.epoch, 1);
    assert.equal(first.head.root, null);
    assert.equal((await own(store)).epoch, 2);
    assert.equal((await own(store, "host-2", { takeOver: true })).epoch, 3);
  });

  it("is not taken from another host by accident, nor from nowhere", async () => {
    const store = new MemoryStore();
    await own(store);
    await assert.rejects(own(store, "host-2"), rejectsWith("conflict"));
    await assert.rejects(acquire({ store, org: "org", sprite: "other", owner: "host-1" }), rejectsWith("not_found"));
  });

  it("is lost to the next owner, for good", async () => {
    const store = new MemoryStore();
    const old = await own(store);
    await old.publish({ root: ROOTS[0] ?? null });
    const now = await own(store, "host-2", { takeOver: true });
    await assert.rejects(old.publish({ root: ROOTS[1] ?? null }), rejectsWith("ownership_lost"));
    await assert.rejects(old.addCheckpoint(checkpoint("v1")), rejectsWith("ownership_lost"));
    await assert.rejects(old.refresh(), rejectsWith("ownership_lost"));
    assert.equal((await now.refresh()).root, ROOTS[0]);
  });

  it("is fenced between two runs of the same host", async () => {
    const store = new MemoryStore();
    const old = await own(store);
    const now = await own(store);
    await now.publish({ root: ROOTS[1] ?? null });
    await assert.rejects(old.publish({ root: ROOTS[0] ?? null }), rejectsWith("ownership_lost"));
    assert.equal((await now.refresh()).root, ROOTS[1]);
  });

  it("lets one of several hosts win at a time, each with an epoch of its own", async () => {
    const store = new MemoryStore();
    const owners = await Promise.all(["a", "b", "c", "d", "e"].map((host) => own(store, host, { takeOver: true })));
    assert.deepEqual(owners.map(({ epoch }) => epoch).sort(), [1, 2, 3, 4, 5]);
    const outcomes = await Promise.allSettled(owners.map((one) => one.publish({ storedBlocks: one.epoch })));
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
  });

  it("is handed to another process by its epoch", async () => {
    const store = new MemoryStore();
    const { epoch } = await own(store);
    const resumed = await resumeOwnership({ store, org: "org", sprite: "s1", owner: "host-1", epoch });
    await resumed.publish({ root: ROOTS[2] ?? null });
    await own(store);
    await assert.rejects(resumeOwnership({ store, org: "org", sprite: "s1", owner: "host-1", epoch }), rejectsWith("ownership_lost"));
  });

  it("survives answers that were lost", async () => {
    const store = new FaultyStore(new MemoryStore());
    let fault: "before" | "after" | "none" = "after";
    let count = 1;
    store.decide = (operation, key) => (operation === "put" && key === HEAD && count-- > 0 ? fault : "none");
    const owned = await own(store);
    assert.equal(owned.epoch, 1);
    for (fault of ["after", "before"] as const) {
      count = 2;
      const head = await owned.publish({ root: ROOTS[0] ?? null });
      assert.deepEqual(await owned.refresh(), head);
    }
    count = 1;
    await owned.addCheckpoint(checkpoint("v1"));
    count = 1;
    fault = "after";
    await owned.addCheckpoint(checkpoint("v2"));
    assert.deepEqual(
      (await owned.refresh()).checkpoints.map(({ id }) => id),
      ["v1", "v2"],
    );
  });

  it("carries out calls one after the other", async () => {
    const store = new MemoryStore();
    const owned = await own(store);
    await Promise.all([
      ...[1, 2, 3].map((number) => owned.addCheckpoint(checkpoint(`v${number}`))),
      ...ROOTS.map((root) => owned.publish({ root })),
    ]);
    const head = await owned.refresh();
    assert.equal(head.checkpoints.length, 3);
    assert.equal(head.root, ROOTS[3]);
    assert.equal(head.lastCheckpoint, 3);
  });

  it("keeps the largest number of an automatic checkpoint, also when it is deleted, and of one that it was never told of", async () => {
    const owned = await own(new MemoryStore());
    assert.equal(owned.head.lastAutomatic, undefined);
    await owned.addCheckpoint(checkpoint("auto-3"));
    await owned.addCheckpoint(checkpoint("auto-2"));
    await owned.deleteCheckpoint("auto-3");
    const last = async () => (await owned.refresh()).lastAutomatic;
    assert.equal(await last(), 3);
    await owned.addCheckpoint(checkpoint("v1"), { lastAutomatic: 7 });
    assert.equal(await last(), 7);
    for (const id of ["auto-0", "auto-x", "auto-1000000000000000", "xauto-9"]) await owned.addCheckpoint(checkpoint(id));
    assert.equal(await last(), 7);
  });

  it("notes the number of an automatic checkpoint that it deletes where the head does not say it", async () => {
    const store = new MemoryStore();
    const { head, keys } = await own(store);
    const document = "0".repeat(64);
    const old = { ...head, checkpoints: ["auto-4", "auto-5"].map((id) => ({ id, document })) };
    await store.put(keys.head, Buffer.from(JSON.stringify(old)));
    const owned = await resumeOwnership({ store, org: "org", sprite: "s1", owner: head.owner, epoch: head.epoch });
    await owned.deleteCheckpoint("auto-5");
    assert.equal((await owned.refresh()).lastAutomatic, 5);
  });

  it("refuses an upload that gc may have forgotten", async () => {
    let now = Date.parse("2026-01-01T00:00:00Z");
    const owned = await acquire({
      store: new MemoryStore(),
      org: "org",
      sprite: "s1",
      owner: "h",
      initial: VOLUME,
      now: () => new Date(now),
    });
    const startedAt = now;
    now += MAX_UPLOAD_AGE_MS + 1000;
    await assert.rejects(owned.publish({ root: null }, { startedAt }), rejectsWith("conflict"));
  });

  it("keeps fields that it does not know", async () => {
    const store = new MemoryStore();
    await own(store);
    const { data } = (await store.get(HEAD)) ?? { data: Buffer.alloc(0) };
    await store.put(HEAD, Buffer.from(JSON.stringify({ ...JSON.parse(data.toString()), future: { kept: true } })));
    const again = await own(store);
    assert.deepEqual((await again.publish({ root: null })).future, { kept: true });
  });

  it("refuses a head of a newer format", async () => {
    const store = new MemoryStore();
    await own(store);
    const { data } = (await store.get(HEAD)) ?? { data: Buffer.alloc(0) };
    await store.put(HEAD, Buffer.from(JSON.stringify({ ...JSON.parse(data.toString()), version: 2 })));
    await assert.rejects(own(store), rejectsWith("store_unsupported"));
  });
});

describe("checkpoints in the store", () => {
  it("are listed by the head, and read back as they were written", async () => {
    const owned = await own(new MemoryStore());
    const written = await owned.addCheckpoint(checkpoint("v1"), { root: ROOTS[0] ?? null, parent: "v1" });
    assert.deepEqual(await owned.readCheckpoint("v1"), written);
    assert.equal(written.parent, null);
    const second = await owned.addCheckpoint(checkpoint("v2"));
    assert.equal(second.parent, "v1");
    assert.equal(second.epoch, 1);
  });

  it("never get an id for the second time", async () => {
    const owned = await own(new MemoryStore());
    await owned.addCheckpoint(checkpoint("v3"));
    await owned.deleteCheckpoint("v3");
    await assert.rejects(owned.addCheckpoint(checkpoint("v3")), rejectsWith("conflict"));
    await assert.rejects(owned.addCheckpoint(checkpoint("v2")), rejectsWith("conflict"));
    await owned.addCheckpoint(checkpoint("v4"));
    await assert.rejects(owned.addCheckpoint(checkpoint("v4")), rejectsWith("conflict"));
    await assert.rejects(owned.deleteCheckpoint("v9"), rejectsWith("not_found"));
    await assert.rejects(owned.readCheckpoint("v3"), rejectsWith("not_found"));
  });

  it("of a host that has lost the sprite do not disturb the owner's", async () => {
    const store = new MemoryStore();
    const old = await own(store);
    const now = await own(store, "host-2", { takeOver: true });
    await assert.rejects(old.addCheckpoint(checkpoint("v1", ROOTS[0])), rejectsWith("ownership_lost"));
    await now.addCheckpoint(checkpoint("v1", ROOTS[1]));
    assert.equal((await now.readCheckpoint("v1")).root, ROOTS[1]);
  });

  it("are known to be damaged when they are", async () => {
    const store = new MemoryStore();
    const owned = await own(store);
    await owned.addCheckpoint(checkpoint("v1"));
    const key = [...store.objects.keys()].find((one) => one.includes("/checkpoints/v1.")) ?? "";
    const held = store.objects.get(key);
    held?.data.write("X", 40);
    await assert.rejects(owned.readCheckpoint("v1"), rejectsWith("data_damaged"));
    store.objects.delete(key);
    await assert.rejects(owned.readCheckpoint("v1"), /is missing/);
  });

  it("refuse what the format does not allow", async () => {
    const owned = await own(new MemoryStore());
    await assert.rejects(owned.addCheckpoint({ ...checkpoint("v1"), id: "../v1" }), rejectsWith("invalid_request"));
    await assert.rejects(owned.addCheckpoint({ ...checkpoint("v1"), comment: "x".repeat(5000) }), rejectsWith("invalid_request"));
    await assert.rejects(owned.publish({ volumeBytes: 1 }), rejectsWith("invalid_request"));
    await assert.rejects(own(new MemoryStore(), "host-1", { sprite: "a/b" }), rejectsWith("invalid_request"));
  });
});

describe("a fork in the store", () => {
  it("begins with the state of its source or of a checkpoint", async () => {
    const store = new MemoryStore();
    const owned = await own(store);
    await owned.addCheckpoint(checkpoint("v1", ROOTS[0]));
    await owned.publish({ root: ROOTS[1] ?? null, storedBlocks: 9 });
    const live = await forkSprite({ store, org: "org", source: "s1", sprite: "live", owner: "host-1" });
    assert.equal(live.head.root, ROOTS[1]);
    assert.equal(live.head.storedBlocks, 9);
    const old = await forkSprite({ store, org: "org", source: "s1", checkpoint: "v1", sprite: "old", owner: "host-1" });
    assert.equal(old.head.root, ROOTS[0]);
    assert.deepEqual(old.head.origin, { sprite: "s1", checkpoint: "v1" });
    assert.equal(old.epoch, 1);
    await assert.rejects(forkSprite({ store, org: "org", source: "s1", sprite: "old", owner: "host-1" }), rejectsWith("conflict"));
    await assert.rejects(
      forkSprite({ store, org: "org", source: "s1", checkpoint: "v7", sprite: "x", owner: "h" }),
      rejectsWith("not_found"),
    );
    await assert.rejects(forkSprite({ store, org: "org", source: "s9", sprite: "x", owner: "h" }), rejectsWith("not_found"));
  });

  it("is taken back when its checkpoint is deleted at that moment", async () => {
    const memory = new MemoryStore();
    const owned = await own(memory);
    await owned.addCheckpoint(checkpoint("v1", ROOTS[0]));
    const store = new FaultyStore(memory);
    let deleted: Promise<void> | undefined;
    store.decide = (operation, key) => {
      if (operation === "put" && key.includes("/f1/head.json")) deleted ??= owned.deleteCheckpoint("v1");
      return "late";
    };
    await assert.rejects(
      forkSprite({ store, org: "org", source: "s1", checkpoint: "v1", sprite: "f1", owner: "h" }),
      rejectsWith("not_found"),
    );
    await deleted;
    assert.equal(await memory.head("orgs/org/sprites/f1/head.json"), undefined);
  });
});

describe("sprites in the store", () => {
  const description = {
    format: "hob-sprite",
    version: 1,
    id: "s1",
    name: "web",
    organization: "org",
    machineId: "0".repeat(32),
    labels: ["a"],
    createdAt: "2026-01-02T03:04:05Z",
    machine: { cpus: 2, ramMb: 1024, storageGb: 100 },
    environment: { A: "b" },
    settings: {},
  } as const;

  it("are described for other hosts, and listed", async () => {
    const store = new MemoryStore();
    await own(store);
    await writeSprite(store, { ...description, labels: ["a"] });
    assert.deepEqual(await readSprite(store, "org", "s1"), description);
    assert.equal(await readSprite(store, "org", "s2"), undefined);
    assert.deepEqual(await listSprites(store, "org"), [{ id: "s1", hasHead: true, hasDescription: true, documents: [] }]);
  });

  it("leave nothing of their own when they are destroyed", async () => {
    const store = new MemoryStore();
    const owned = await own(store);
    await writeSprite(store, { ...description, labels: [] });
    await owned.addCheckpoint(checkpoint("v1"));
    await owned.destroy();
    assert.deepEqual([...store.objects.keys()], []);
    await assert.rejects(owned.publish({ root: null }), rejectsWith("ownership_lost"));
  });
});
