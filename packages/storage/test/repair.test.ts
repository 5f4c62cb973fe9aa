import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MAP_LEVELS } from "../src/format/limits.ts";
import { fsck } from "../src/maintenance/fsck.ts";
import { fsckAndRepair, repairStates } from "../src/maintenance/repair.ts";
import type { MapRoot } from "../src/map/chunk-ref.ts";
import { PageStore } from "../src/map/page-store.ts";
import { walkPages } from "../src/map/traverse.ts";
import { acquire } from "../src/ownership/acquire.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import type { ObjectStore, PutOptions } from "../src/store/object-store.ts";
import { differences } from "./support/blocks.ts";
import { Machine } from "./support/machine.ts";
import { Random } from "./support/random.ts";
import { type RepairRun, runRepair } from "./support/run-repair.ts";
import { rejectsWith } from "./support/store-contract.ts";
import { DAMAGE, StoreFolder } from "./support/store-folder.ts";

const ORG = "org";
/** In three leaves, two of them below one page. */
const PLACES = [0, 1, 2, 3, 300, 301, 302, 70_000, 70_001];

const keyOf = (page: string): string => `orgs/${ORG}/maps/${page}`;
const run = (machine: Machine): Promise<RepairRun> =>
  runRepair({ store: machine.store, org: ORG, ownership: machine.owned, source: machine }, machine);
const rootOf = async ({ owned }: Machine, checkpoint: string | null): Promise<MapRoot> =>
  checkpoint === null ? owned.head.root : (await owned.readCheckpoint(checkpoint)).root;

/** Two checkpoints and a newest state, each of which shares pages with the one before. */
async function withHistory(folder: StoreFolder): Promise<Machine> {
  const machine = await Machine.create(await folder.open(), ORG, "s1");
  await machine.write(PLACES.map((block, index) => [block, 2 * index + 1]));
  await machine.checkpoint("v1");
  await machine.write([
    [0, 101],
    [300, 102],
  ]);
  await machine.checkpoint("v2");
  await machine.write([
    [70_000, 103],
    [2, 0],
  ]);
  return machine;
}

/** Pages of a state, root first. */
async function pagesOf({ store }: Machine, root: MapRoot): Promise<{ name: string; level: number; first: number }[]> {
  const found: { name: string; level: number; first: number }[] = [];
  await walkPages(new PageStore({ store, org: ORG }), root, { enter: (name, level, first) => found.push({ name, level, first }) > 0 });
  return found;
}

/** Every state reads back as it was, but where the report names it. */
async function verify(machine: Machine, { after }: Pick<RepairRun, "after">): Promise<void> {
  const { store, expected, owned } = machine;
  for (const [checkpoint, model] of expected) {
    const named = after.damage.filter((one) => one.checkpoint === checkpoint);
    if (named.some(({ blocks }) => blocks.length === 0)) continue;
    const isNamed = (block: number) =>
      named.some(({ blocks }) => blocks.some(({ first, count }) => block >= first && block < first + count));
    const whole = PLACES.filter((block) => !isNamed(block));
    const reader = new BlockReader({ store, org: ORG, root: await rootOf(machine, checkpoint) });
    assert.deepEqual(await differences(reader, model, whole), [], `checkpoint ${checkpoint}`);
    if (named.length > 0) continue;
    const { storedBlocks } = checkpoint === null ? owned.head : await owned.readCheckpoint(checkpoint);
    assert.deepEqual([await reader.map.storedBlocks(), storedBlocks], [model.size, model.size]);
  }
}

describe("repair of a page", () => {
  for (const kind of DAMAGE) {
    for (const level of Array.from({ length: MAP_LEVELS }, (_, number) => number)) {
      it(`of level ${level} that was ${kind} makes it anew from the machine's snapshots`, async () => {
        using folder = new StoreFolder();
        const machine = await withHistory(folder);
        for (const checkpoint of ["v1", null]) {
          for (const { name } of (await pagesOf(machine, await rootOf(machine, checkpoint))).filter((page) => page.level === level))
            if (folder.keys("orgs").includes(keyOf(name))) folder.damage(keyOf(name), kind);
        }
        assert.ok((await fsck({ store: machine.store, org: ORG })).damage.some(({ checkpoint }) => checkpoint === "v1"));
        const report = await run(machine);
        assert.deepEqual(report.after.damage, []);
        assert.ok(report.pages > 0);
        assert.equal(report.blocks, 0);
        await verify(machine, report);
        const before = folder.content();
        assert.deepEqual((await run(machine)).after.damage, []);
        assert.deepEqual(folder.content(), before);
      });

      it(`of level ${level} that was ${kind} puts it back under its name where it is in memory`, async () => {
        using folder = new StoreFolder();
        const machine = await withHistory(folder);
        const before = folder.content();
        for (const page of await pagesOf(machine, machine.owned.head.root)) {
          machine.cached.set(page.name, folder.bytes(keyOf(page.name)));
          if (page.level <= level) folder.damage(keyOf(page.name), kind);
        }
        const report = await run(machine);
        assert.deepEqual(report.after.damage, []);
        assert.deepEqual(folder.content(), before);
      });
    }
  }

  it("sends no chunk again that another state has in the same place", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    const packs = folder.keys(`orgs/${ORG}/packs`);
    folder.damage(keyOf((await rootOf(machine, "v2")) ?? ""), "deleted");
    const report = await run(machine);
    assert.deepEqual(report.after.damage, []);
    await verify(machine, report);
    assert.deepEqual(folder.keys(`orgs/${ORG}/packs`), packs);
  });

  it("takes no chunk that is lost itself, and brings that back as well", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    for (const key of folder.keys(`orgs/${ORG}/packs`)) folder.damage(key, "deleted");
    folder.damage(keyOf((await rootOf(machine, "v2")) ?? ""), "flipped");
    const { store, owned: ownership } = machine;
    await repairStates({ store, org: ORG, ownership, source: machine }, (await fsck({ store, org: ORG })).damage);
    const after = await fsck({ store, org: ORG });
    assert.deepEqual(after.damage, []);
    await verify(machine, { after });
  });

  it("ends when the store does not give back what is put, and makes the page anew", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    const [lost = ""] = (await pagesOf(machine, machine.owned.head.root)).filter(({ level }) => level === 0).map(({ name }) => name);
    machine.cached.set(lost, folder.bytes(keyOf(lost)));
    folder.damage(keyOf(lost), "flipped");
    const { store, owned: ownership } = machine;
    let puts = 0;
    const worn: ObjectStore = Object.assign(Object.create(store), {
      get: store.get.bind(store),
      head: store.head.bind(store),
      put: async (key: string, data: Uint8Array, options?: PutOptions) => {
        if (key !== keyOf(lost)) return await store.put(key, data, options);
        assert.equal(++puts, 1, "it is put once");
        return { etag: "worn" };
      },
    });
    await repairStates({ store: worn, org: ORG, ownership, source: machine }, (await fsck({ store, org: ORG })).damage);
    assert.equal(puts, 1);
    const after = await fsck({ store, org: ORG });
    assert.deepEqual(after.damage, []);
    await verify(machine, { after });
  });

  it("leaves alone what the store has right, whoever says that it is damaged", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    const before = folder.content();
    const damage = [null, "v1", "v2"].map((checkpoint) => ({ checkpoint, blocks: [{ first: 0, count: 256 ** 3 }] }));
    const options = { store: machine.store, org: ORG, ownership: machine.owned, source: machine };
    assert.equal((await repairStates(options, damage)).roots.size, 0);
    assert.equal((await repairStates(options, [{ checkpoint: "v1", blocks: [] }])).documents, 0);
    assert.deepEqual(folder.content(), before);
  });
});

describe("repair of a checkpoint's document", () => {
  for (const kind of DAMAGE) {
    it(`that was ${kind} writes another that says the same`, async () => {
      using folder = new StoreFolder();
      const machine = await withHistory(folder);
      const { root: _root, epoch: _epoch, ...before } = await machine.owned.readCheckpoint("v1");
      const [key = ""] = folder.keys(`orgs/${ORG}/sprites/s1/checkpoints`).filter((one) => one.includes("/v1."));
      folder.damage(key, kind);
      const report = await run(machine);
      assert.deepEqual(report.after.damage, []);
      assert.equal(report.documents, 1);
      await verify(machine, report);
      const { root: _newRoot, epoch, ...after } = await machine.owned.readCheckpoint("v1");
      assert.deepEqual(after, before);
      assert.equal(epoch, machine.owned.epoch);
      assert.deepEqual(
        (await machine.owned.refresh()).checkpoints.map(({ id }) => id),
        ["v1", "v2"],
      );
    });
  }

  it("has its map as well when that is damaged too", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    for (const key of folder.keys("orgs")) if (/\/(maps|checkpoints)\//.test(key)) folder.damage(key, "flipped");
    const report = await run(machine);
    assert.deepEqual(report.after.damage, []);
    await verify(machine, report);
  });
});

describe("repair on a machine that does not have everything", () => {
  it("names what it cannot bring back, and writes nothing for it", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    const [document = ""] = folder.keys(`orgs/${ORG}/sprites/s1/checkpoints`).filter((one) => one.includes("/v1."));
    folder.damage(document, "deleted");
    folder.damage(keyOf((await rootOf(machine, "v2")) ?? ""), "truncated");
    machine.checkpoints.clear();
    const before = folder.content();
    const { after } = await run(machine);
    assert.deepEqual(
      after.damage.map(({ checkpoint }) => checkpoint),
      ["v1", "v2"],
    );
    assert.deepEqual(folder.content(), before);
  });

  it("makes a page of what was written there and the map behind it, when both are whole", async () => {
    using folder = new StoreFolder();
    const machine = await (await withHistory(folder)).moved();
    await machine.write([[1, 201]]);
    const own = new Set((await pagesOf(machine, machine.uploaded.origin)).map(({ name }) => name));
    const pages = await pagesOf(machine, machine.owned.head.root);
    for (const { name } of pages) if (!own.has(name)) folder.damage(keyOf(name), "flipped");
    const report = await run(machine);
    assert.deepEqual(report.after.damage, []);
    await verify(machine, report);
  });

  it("does not guess what the map behind it said where that is lost", async () => {
    using folder = new StoreFolder();
    const machine = await (await withHistory(folder)).moved();
    await machine.write([[1, 201]]);
    for (const root of [machine.uploaded.origin, machine.owned.head.root])
      for (const { name, level, first } of await pagesOf(machine, root))
        if (level === 0 && first === 0) folder.damage(keyOf(name), "deleted");
    const before = folder.content();
    const report = await run(machine);
    assert.deepEqual(
      report.after.damage.map(({ checkpoint, blocks }) => [checkpoint, blocks]),
      [[null, [{ first: 0, count: 256 }]]],
    );
    assert.deepEqual(folder.content(), before);
    await verify(machine, report);
  });

  it("refuses a state that is not what the store says of it", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    folder.damage(keyOf((await rootOf(machine, "v2")) ?? ""), "deleted");
    machine.checkpoints.get("v2")?.written.delete(70_001);
    const { after } = await run(machine);
    assert.deepEqual(
      after.damage.map(({ checkpoint }) => checkpoint),
      ["v2"],
    );
  });

  it("changes nothing when the sprite is another host's meanwhile", async () => {
    using folder = new StoreFolder();
    const machine = await withHistory(folder);
    folder.damage(keyOf(machine.owned.head.root ?? ""), "deleted");
    await acquire({ store: machine.store, org: ORG, sprite: "s1", owner: "other", takeOver: true });
    const head = folder.bytes(`orgs/${ORG}/sprites/s1/head.json`);
    await assert.rejects(run(machine), rejectsWith("ownership_lost"));
    assert.deepEqual(folder.bytes(`orgs/${ORG}/sprites/s1/head.json`), head);
  });
});

describe("repair of a sprite whose head is damaged", () => {
  it("is not tried: nobody can tell who may write", async () => {
    using folder = new StoreFolder();
    const { store, owned } = await withHistory(folder);
    folder.damage(`orgs/${ORG}/sprites/s1/head.json`, "truncated");
    const { damage } = await fsckAndRepair({ store, org: ORG, sprites: ["s1"] }, async () => assert.fail("it was tried"));
    assert.deepEqual(
      damage.map(({ checkpoint, problem }) => [checkpoint, problem]),
      [[null, `${owned.keys.head} is not JSON`]],
    );
  });
});

describe("repair after any damage", () => {
  /** Writes and checkpoints, and for some a move to another machine. */
  async function randomHistory(folder: StoreFolder, random: Random): Promise<Machine> {
    let machine = await Machine.create(await folder.open(), ORG, "s1");
    const moves = random.chance(0.4) ? 1 + random.below(4) : 0;
    for (let round = 1; round <= 4; round++) {
      if (round === moves) machine = await machine.moved();
      await machine.write(Array.from({ length: 1 + random.below(6) }, () => [random.pick(PLACES), random.below(20)]));
      if (random.chance(0.7)) await machine.checkpoint(`v${round}`);
    }
    return machine;
  }

  /** Some pages stay in memory, a checkpoint may be unknown, and any object may be hit. */
  function loseAtRandom(folder: StoreFolder, random: Random, machine: Machine): void {
    const objects = folder.keys("orgs").filter((key) => /\/(packs|maps|checkpoints)\//.test(key));
    const pages = objects.filter((key) => key.includes("/maps/"));
    for (const key of pages) if (random.chance(0.3)) machine.cached.set(key.slice(-64), folder.bytes(key));
    if (machine.checkpoints.size > 0 && random.chance(0.3)) machine.checkpoints.delete(random.pick([...machine.checkpoints.keys()]));
    for (const key of objects) if (random.chance(0.4)) folder.damage(key, random.pick(DAMAGE), random.next());
  }

  for (const seed of Array.from({ length: 12 }, (_, number) => number + 1)) {
    it(`brings every state back or names it, and has nothing to do the second time: seed ${seed}`, async () => {
      using folder = new StoreFolder();
      const random = new Random(seed);
      const machine = await randomHistory(folder, random);
      loseAtRandom(folder, random, machine);
      const before = await fsck({ store: machine.store, org: ORG });
      const report = await run(machine);
      await verify(machine, report);
      const damagedBefore = new Set(before.damage.map(({ checkpoint }) => checkpoint));
      const hasAll = [...machine.checkpoints.values(), machine.uploaded].every(({ origin }) => origin === null);
      for (const { checkpoint } of report.after.damage)
        assert.ok(!hasAll || (checkpoint !== null && !machine.checkpoints.has(checkpoint)), `checkpoint ${checkpoint} is on this machine`);
      for (const { checkpoint } of report.after.damage) assert.ok(damagedBefore.has(checkpoint), `checkpoint ${checkpoint} was whole`);
      const content = folder.content();
      assert.deepEqual((await run(machine)).after.damage, report.after.damage);
      assert.deepEqual(folder.content(), content);
    });
  }
});
