import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { HobError } from "@hob/protocol";
import { BLOCK_BYTES } from "../src/format/limits.ts";
import type { InnerPage } from "../src/format/page.ts";
import { fsck } from "../src/maintenance/fsck.ts";
import { collectGarbage, GC_GRACE_MS } from "../src/maintenance/gc.ts";
import { repairStates } from "../src/maintenance/repair.ts";
import { PageStore } from "../src/map/page-store.ts";
import { acquire } from "../src/ownership/acquire.ts";
import { forkSprite } from "../src/ownership/fork.ts";
import type { Ownership } from "../src/ownership/ownership.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { PROBE_MS_MAX } from "../src/store/conditional-writes.ts";
import { Uploader } from "../src/upload/uploader.ts";
import { applyTo, blockOf, changesOf, differences, type Model } from "./support/blocks.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { runRepair } from "./support/run-repair.ts";
import { rejectsWith } from "./support/store-contract.ts";

const ORG = "org";
type Changes = [number, number][];

class Sprite {
  readonly store: MemoryStore;
  readonly owned: Ownership;
  model: Model = new Map();
  readonly checkpoints = new Map<string, Model>();

  constructor(store: MemoryStore, owned: Ownership) {
    this.store = store;
    this.owned = owned;
  }

  async write(changes: Changes): Promise<void> {
    const { root, storedBlocks, startedAt } = await new Uploader({ store: this.store, org: ORG, packTargetBytes: 150_000 }).upload(
      this.owned.head.root,
      changesOf(changes),
    );
    await this.owned.publish({ root, storedBlocks }, { startedAt });
    this.model = applyTo(this.model, changes);
  }

  async checkpoint(id: string): Promise<void> {
    const { root, storedBlocks } = this.owned.head;
    await this.owned.addCheckpoint(
      { id, comment: "", createdAt: new Date().toISOString(), root, storedBlocks, automatic: false },
      { parent: id },
    );
    this.checkpoints.set(id, this.model);
  }

  /** Blocks of all states that do not read back as they were. */
  async different(): Promise<string[]> {
    const found: string[] = [];
    const check = async (name: string, root: string | null, model: Model): Promise<void> => {
      const blocks = await differences(
        new BlockReader({ store: this.store, org: ORG, root }),
        model,
        Array.from({ length: 40 }, (_, block) => block),
      );
      found.push(...blocks.map((block) => `${name} ${block}`));
    };
    for (const [id, model] of this.checkpoints) await check(id, (await this.owned.readCheckpoint(id)).root, model);
    await check("head", this.owned.head.root, this.model);
    return found;
  }
}

async function sprite(store: MemoryStore, id = "s1"): Promise<Sprite> {
  return new Sprite(store, await acquire({ store, org: ORG, sprite: id, owner: "host", initial: { volumeBytes: 1000 * BLOCK_BYTES } }));
}

/** A store with one sprite: its writes, each followed by a checkpoint, v1, v2 and so on. */
async function withHistory(...rounds: Changes[]): Promise<{ store: MemoryStore; one: Sprite }> {
  const store = new MemoryStore();
  const one = await sprite(store);
  for (const [index, changes] of rounds.entries()) {
    await one.write(changes);
    await one.checkpoint(`v${index + 1}`);
  }
  return { store, one };
}

const later = (store: MemoryStore, ms: number): void => {
  const now = store.now();
  store.now = () => now + ms;
};

const keysOf = (store: MemoryStore, kind: "packs" | "maps" | "checkpoints"): string[] =>
  [...store.objects.keys()].filter((key) => key.includes(`/${kind}/`));

describe("collecting garbage", () => {
  it("keeps what heads and checkpoints reach and deletes the rest when it is old", async () => {
    const { store, one } = await withHistory(
      [
        [0, 1],
        [1, 3],
        [2, 5],
      ],
      [
        [0, 7],
        [1, 9],
        [2, 11],
      ],
    );
    await one.write([[3, 13]]);
    // An upload that was never published.
    await new Uploader({ store, org: ORG }).upload(null, changesOf([[5, 21]]));
    await one.owned.deleteCheckpoint("v1");
    one.checkpoints.delete("v1");
    const young = await collectGarbage({ store, org: ORG });
    assert.equal(young.deletedPacks + young.deletedPages, 0);
    assert.ok(young.keptYoung > 0);
    later(store, GC_GRACE_MS + 1000);
    const before = store.objects.size;
    const dry = await collectGarbage({ store, org: ORG, dryRun: true });
    assert.equal(store.objects.size, before);
    const report = await collectGarbage({ store, org: ORG });
    assert.deepEqual({ ...dry }, { ...report });
    assert.equal(report.deletedPacks, 2);
    assert.equal(keysOf(store, "packs").length, report.reachablePacks);
    assert.equal(keysOf(store, "maps").length, report.reachablePages);
    assert.deepEqual(await one.different(), []);
    const again = await collectGarbage({ store, org: ORG });
    assert.equal(again.deletedPacks + again.deletedPages + again.deletedDocuments, 0);
    assert.deepEqual((await fsck({ store, org: ORG })).damage, []);
  });

  it("keeps what a fork shares with a sprite that is gone", async () => {
    const { store, one } = await withHistory([
      [0, 1],
      [1, 3],
    ]);
    const fork = new Sprite(store, await forkSprite({ store, org: ORG, source: "s1", checkpoint: "v1", sprite: "f1", owner: "host" }));
    fork.model = one.model;
    await one.owned.destroy();
    later(store, GC_GRACE_MS + 1000);
    await collectGarbage({ store, org: ORG });
    assert.deepEqual(await fork.different(), []);
    await fork.owned.destroy();
    const last = await collectGarbage({ store, org: ORG });
    assert.equal(last.sprites, 0);
    assert.deepEqual([...store.objects.keys()], [`orgs/${ORG}/gc.json`]);
  });

  it("deletes what a probe that was cut off has left, but nothing of one that may be under way", async () => {
    const store = new MemoryStore();
    const cut = new AbortController();
    const { put } = store;
    store.put = async (...args) => {
      const result = await put.apply(store, args);
      cut.abort();
      return result;
    };
    await assert.rejects(store.probe({ signal: cut.signal }), { name: "AbortError" });
    store.put = put;
    await store.put("probe/of-somebody-else", Buffer.from("x"));
    const probes = () => [...store.objects.keys()].filter((key) => key.startsWith("probe/")).length;
    assert.equal(probes(), 2);
    assert.equal((await collectGarbage({ store, org: ORG, graceMs: 0 })).deletedDocuments, 0);
    later(store, PROBE_MS_MAX + 1000);
    assert.equal((await collectGarbage({ store, org: ORG, graceMs: 0, dryRun: true })).deletedDocuments, 1);
    assert.equal(probes(), 2);
    assert.equal((await collectGarbage({ store, org: ORG, graceMs: 0 })).deletedDocuments, 1);
    assert.equal(probes(), 1);
  });

  it("deletes documents that no head names, and leaves what it does not know", async () => {
    const store = new MemoryStore();
    const one = await sprite(store);
    await one.checkpoint("v1");
    const [named = ""] = keysOf(store, "checkpoints");
    await store.put(`orgs/${ORG}/sprites/s1/checkpoints/v9.0123456789abcdef.json`, Buffer.from("{}"));
    await store.put(`orgs/${ORG}/packs/README`, Buffer.from("mine"));
    await store.put("orgs/other/packs/x", Buffer.from("another's"));
    later(store, GC_GRACE_MS + 1000);
    assert.equal((await collectGarbage({ store, org: ORG })).deletedDocuments, 1);
    assert.deepEqual(keysOf(store, "checkpoints"), [named]);
    assert.ok(store.objects.has(`orgs/${ORG}/packs/README`));
    assert.ok(store.objects.has("orgs/other/packs/x"));
  });

  it("deletes nothing on knowledge that is not complete", async () => {
    const { store, one } = await withHistory([[0, 1]]);
    await new Uploader({ store, org: ORG }).upload(null, changesOf([[5, 21]]));
    later(store, GC_GRACE_MS + 1000);
    const pages = keysOf(store, "maps");
    const root = `orgs/${ORG}/maps/${one.owned.head.root}`;
    const kept = store.objects.get(root);
    if (kept === undefined) throw new Error("no root");
    store.objects.delete(root);
    const report = await collectGarbage({ store, org: ORG });
    assert.deepEqual(report.damaged, [root]);
    assert.equal(report.deletedPacks + report.deletedPages, 0);
    assert.ok(report.holders.some(({ key, sprite, checkpoint }) => key === root && sprite === "s1" && checkpoint === null));
    store.objects.set(root, kept);
    const [document = ""] = keysOf(store, "checkpoints");
    store.objects.get(document)?.data.write("X", 3);
    await assert.rejects(collectGarbage({ store, org: ORG }), (error: HobError) => {
      assert.deepEqual([error.code, error.details.object], ["data_damaged", document]);
      return error.message.startsWith("nothing was removed") && error.hint?.includes("hob fsck") === true;
    });
    store.objects.get(`orgs/${ORG}/sprites/s1/head.json`)?.data.write("X", 3);
    await assert.rejects(collectGarbage({ store, org: ORG }), rejectsWith("data_damaged"));
    assert.equal(keysOf(store, "maps").length, pages.length);
    assert.equal(keysOf(store, "packs").length, 2);
  });

  it("names every state that needs a damaged page, of every sprite, and no other", async () => {
    const first: Changes = [
      [0, 1],
      [70_000, 2],
    ];
    const { store, one } = await withHistory(first);
    const shared = one.owned.head.root;
    await one.write([[0, 3]]);
    await forkSprite({ store, org: ORG, sprite: "s2", owner: "host", source: "s1", checkpoint: "v1" });
    const pages = new PageStore({ store, org: ORG });
    const below = async (map: string, level: number, index: number): Promise<string> =>
      ((await pages.load(map, level)) as InnerPage).entries.get(index)?.page ?? assert.fail("no page");
    // The block at 70,000 is in a part that both states share; the one at 0 is in the checkpoint alone.
    const [both, alone] = [await below(await below(shared ?? "", 2, 1), 1, 17), await below(await below(shared ?? "", 2, 0), 1, 0)];
    const holders = async (page: string) => {
      const key = `orgs/${ORG}/maps/${page}`;
      const kept = store.objects.get(key) ?? assert.fail("no page");
      store.objects.delete(key);
      const report = await collectGarbage({ store, org: ORG });
      store.objects.set(key, kept);
      assert.deepEqual(report.damaged, [key]);
      assert.ok(report.holders.every((holder) => holder.key === key && !holder.isBase));
      return report.holders.map(({ sprite, checkpoint }) => `${sprite} ${checkpoint}`).sort();
    };
    assert.deepEqual(await holders(both), ["s1 null", "s1 v1", "s2 null"]);
    assert.deepEqual(await holders(alone), ["s1 v1", "s2 null"]);
  });

  it("is safe while uploads, checkpoints and forks go on", async () => {
    const { store, one } = await withHistory([
      [0, 1],
      [1, 3],
    ]);
    later(store, GC_GRACE_MS + 1000);
    const gc = (async () => {
      for (let round = 0; round < 10; round++) await collectGarbage({ store, org: ORG });
    })();
    for (let round = 0; round < 15; round++) {
      await one.write([
        [round % 5, round * 2 + 1],
        [10 + round, round],
      ]);
      await one.checkpoint(`v${round + 2}`);
      if (round % 3 === 0)
        await forkSprite({ store, org: ORG, source: "s1", checkpoint: `v${round + 2}`, sprite: `f${round}`, owner: "host" });
      if (round % 2 === 0) {
        await one.owned.deleteCheckpoint(`v${round + 2}`);
        one.checkpoints.delete(`v${round + 2}`);
      }
    }
    await gc;
    assert.deepEqual(await one.different(), []);
    assert.deepEqual((await fsck({ store, org: ORG })).damage, []);
  });
});

describe("fsck", () => {
  const prepared = () =>
    withHistory(
      [
        [0, 1],
        [1, 3],
        [2, 5],
        [30, 2],
      ],
      [
        [0, 7],
        [600, 9],
      ],
    );

  it("proves everything readable", async () => {
    const { store } = await prepared();
    const report = await fsck({ store, org: ORG });
    assert.deepEqual(report.damage, []);
    assert.deepEqual(report.warnings, []);
    assert.equal(report.states, 3);
    assert.equal(report.packs, keysOf(store, "packs").length);
    assert.equal(report.chunks, 6);
    await assert.rejects(fsck({ store, org: ORG, sprites: ["absent"] }), rejectsWith("not_found"));
  });

  it("names the checkpoints and blocks that a lost pack has", async () => {
    const { store, one } = await prepared();
    const { lookup } = {
      lookup: async (root: string | null, block: number) => await new BlockReader({ store, org: ORG, root }).map.lookup(block),
    };
    const ref = await lookup((await one.owned.readCheckpoint("v1")).root, 1);
    store.objects.delete(`orgs/${ORG}/packs/${ref?.pack}`);
    const { damage } = await fsck({ store, org: ORG });
    const states = new Set(damage.map(({ checkpoint }) => checkpoint));
    assert.deepEqual(states, new Set([null, "v1", "v2"]));
    assert.ok(
      damage.every(
        ({ problem, blocks }) => problem.includes("is missing") && blocks.some(({ first, count }) => first <= 1 && first + count > 1),
      ),
    );
  });

  it("names every single bit that is wrong in an object that is needed", async () => {
    const { store } = await prepared();
    for (const [key, { data }] of [...store.objects]) {
      if (!/\/(packs|maps|checkpoints)\//.test(key)) continue;
      for (const at of [0, 9, 30, Math.floor(data.length / 2), data.length - 1]) {
        data.writeUInt8(data.readUInt8(at) ^ 4, at);
        const { damage, warnings } = await fsck({ store, org: ORG });
        assert.ok(damage.length + warnings.length > 0, `${key} at ${at}`);
        data.writeUInt8(data.readUInt8(at) ^ 4, at);
      }
    }
    assert.deepEqual((await fsck({ store, org: ORG })).damage, []);
  });

  it("says which checkpoint has lost its document, and goes on", async () => {
    const { store } = await prepared();
    const key = keysOf(store, "checkpoints").find((one) => one.includes("/v1.")) ?? "";
    store.objects.delete(key);
    const { damage } = await fsck({ store, org: ORG });
    assert.deepEqual(damage, [{ sprite: "s1", checkpoint: "v1", problem: `${key} is missing`, blocks: [] }]);
  });

  it("names the range of blocks below a page that is lost", async () => {
    const { store, one } = await prepared();
    store.objects.delete(`orgs/${ORG}/maps/${one.owned.head.root}`);
    const { damage } = await fsck({ store, org: ORG });
    assert.ok(damage.some(({ checkpoint, blocks }) => checkpoint === null && blocks[0]?.first === 0 && blocks[0].count === 256 ** 3));
    assert.ok(!damage.some(({ checkpoint }) => checkpoint === "v1"));
  });
});

describe("repair", () => {
  it("brings lost chunks and pages back from a local copy", async () => {
    const { store, one } = await withHistory(
      Array.from({ length: 12 }, (_, block): [number, number] => [block, block * 2 + 1]),
      [
        [0, 7],
        [20, 9],
      ],
    );
    const pages = new Map(
      [...store.objects].filter(([key]) => key.includes("/maps/")).map(([key, { data }]) => [key.slice(-64), Buffer.from(data)]),
    );
    const chunk = async (_hash: string, block: number, checkpoint: string | null) =>
      blockOf((checkpoint === null ? one.model : one.checkpoints.get(checkpoint))?.get(block) ?? 0);
    for (const key of keysOf(store, "packs")) store.objects.delete(key);
    for (const key of keysOf(store, "maps").slice(0, 4)) store.objects.delete(key);
    const {
      blocks,
      pages: repairedPages,
      after,
    } = await runRepair({
      store,
      org: ORG,
      ownership: one.owned,
      source: { chunk, page: async (name) => pages.get(name) },
    });
    assert.equal(repairedPages, 4);
    assert.ok(blocks >= 13);
    assert.deepEqual(after.damage, []);
    assert.deepEqual(await one.different(), []);
    assert.equal((await one.owned.refresh()).checkpoints.length, 2);
  });

  it("says which state has which root now, for whoever goes on from the one before", async () => {
    const store = new MemoryStore();
    const one = await sprite(store);
    await one.write([
      [0, 1],
      [1, 3],
    ]);
    await one.checkpoint("v1");
    await one.write([[1, 5]]);
    const [first, newest] = [(await one.owned.readCheckpoint("v1")).root, one.owned.head.root];
    for (const key of keysOf(store, "packs")) store.objects.delete(key);
    const chunk = async (_hash: string, block: number, checkpoint: string | null) =>
      blockOf((checkpoint === null ? one.model : one.checkpoints.get(checkpoint))?.get(block) ?? 0);
    const damage = (await fsck({ store, org: ORG })).damage;
    const { blocks, roots } = await repairStates({ store, org: ORG, ownership: one.owned, source: { chunk } }, damage);
    assert.equal(blocks, 4);
    assert.deepEqual([roots.get(first ?? ""), roots.get(newest ?? "")], [(await one.owned.readCheckpoint("v1")).root, one.owned.head.root]);
    assert.deepEqual((await fsck({ store, org: ORG })).damage, []);
    assert.deepEqual(await one.different(), []);
  });

  it("leaves what it does not get, or gets wrong", async () => {
    const store = new MemoryStore();
    const one = await sprite(store);
    await one.write([
      [0, 1],
      [1, 3],
      [2, 5],
    ]);
    for (const key of keysOf(store, "packs")) store.objects.delete(key);
    const chunk = async (_hash: string, block: number) => (block === 0 ? blockOf(1) : block === 1 ? blockOf(99) : undefined);
    const { blocks, after } = await runRepair({ store, org: ORG, ownership: one.owned, source: { chunk } });
    assert.equal(blocks, 1);
    assert.deepEqual(
      after.damage.flatMap((one) => one.blocks),
      [{ first: 1, count: 2 }],
    );
  });

  it("changes nothing where nothing is damaged", async () => {
    const store = new MemoryStore();
    const one = await sprite(store);
    await one.write([[0, 1]]);
    const { head } = one.owned;
    const report = await runRepair({ store, org: ORG, ownership: one.owned, source: { chunk: async () => undefined } });
    assert.equal(report.blocks, 0);
    assert.deepEqual(one.owned.head, head);
  });
});
