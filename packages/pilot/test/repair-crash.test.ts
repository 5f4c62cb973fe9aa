import assert from "node:assert/strict";
import { test } from "node:test";
import { acquire, collectGarbage, fsck, fsckAndRepair, type ObjectStore, OrgKeys, readCheckpoint, readHead, sha256 } from "@hob/storage";
import { Durability } from "../src/durability/durability.ts";
import { originOf } from "../src/durability/origin-name.ts";
import { repairStore } from "../src/durability/store-repair.ts";
import { Ledger } from "../src/volume/ledger.ts";
import { blockOf, lettersIn, SIZE_BYTES, StoredVolume, thinOf } from "./support/stored-volume.ts";

const keys = new OrgKeys("org");
const place = { store: undefined, org: "org", sprite: "s1", owner: "host" };
const log = { info: () => {}, warn: () => {}, error: () => {} };

/** A pilot that dies after so many steps: writes of heads, documents and the ledger, each before or after it was made. */
class Life implements AsyncDisposable {
  readonly durability: Durability;
  readonly repair: (damage: Parameters<Parameters<typeof fsckAndRepair>[1]>[0]) => Promise<unknown>;
  isDead = false;
  #left = Number.POSITIVE_INFINITY;
  #isMortal = true;

  private constructor(model: StoredVolume, store: ObjectStore, ledger: Ledger, root: string) {
    const mortal = new Proxy(store, {
      get: (target, name) => {
        const value = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        const call = value.bind(target);
        return name === "put" ? (key: string, ...put: unknown[]) => this.#putting(key, () => call(key, ...put)) : call;
      },
    });
    const update = ledger.update.bind(ledger);
    ledger.update = (change) => this.#mortally(() => update(change));
    const volume = model.volume(ledger);
    let opened: readonly string[] = [];
    const upload = model.upload(volume, mortal, () => opened);
    this.durability = new Durability({ store: mortal, upload, log, intervalMs: 2 ** 30 });
    const base = { root, volumeBytes: SIZE_BYTES };
    this.durability.assign({ organization: "org", spriteId: "s1", owner: "host", epoch: 1, base });
    const local = new Map([..."abcd"].map((letter) => [sha256(blockOf(letter)), blockOf(letter)]));
    const cache = { get: async (hash: string) => local.get(hash), put: async () => {} };
    const name = (origins: readonly string[]) => {
      opened = origins;
    };
    const parts = {
      store: mortal,
      organization: "org",
      volume,
      durability: this.durability,
      pages: { cached: () => undefined },
      cache,
      name,
    };
    this.repair = (damage) => repairStore(parts, { damage: [...damage] });
  }

  static async begin(model: StoredVolume, root: string): Promise<Life> {
    return new Life(model, await model.openStore(), await Ledger.open(model.ledgerPath), root);
  }

  diesAfter(steps: number): void {
    this.#left = steps;
  }

  /** As `diesAfter`, but that step fails, and no other. */
  failsAfter(steps: number): void {
    this.#left = steps;
    this.#isMortal = false;
  }

  /** Whether it has failed. */
  get hasFailed(): boolean {
    return this.#left < 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isDead = true;
    await this.durability[Symbol.asyncDispose]();
  }

  /** What no head names yet may be there or not. */
  #putting<T>(key: string, work: () => Promise<T>): Promise<T> {
    if (key.startsWith(keys.sprites)) return this.#mortally(work);
    if (this.isDead) return Promise.reject(new Error("the pilot has died"));
    return work();
  }

  async #mortally<T>(work: () => Promise<T>): Promise<T> {
    this.#step();
    const result = await work();
    this.#step();
    return result;
  }

  #step(): void {
    const isLast = this.#left-- === 0;
    if (isLast && this.#isMortal) this.isDead = true;
    if (isLast || this.isDead) throw new Error("what a pilot does failed, or it has died");
  }
}

/** A sprite that was put over map A of the store, and wrote two blocks; then the store loses chunks of A and pages of the newest map. */
async function damagedSprite(model: StoredVolume): Promise<{ store: ObjectStore; base: string; life: Life }> {
  const store = await model.openStore();
  const pagesNow = async () => (await store.list(keys.maps)).objects.map(({ key }) => key);
  const first = await Ledger.create(model.ledgerPath);
  model.live = thinOf("abcd");
  const upload = model.upload(model.volume(first), store);
  upload.isFor({ organization: "org", spriteId: "s1", owner: "host", epoch: 1 });
  await using uploaded = await upload.live({});
  const { root: base, storedBlocks } = uploaded.result;
  assert.ok(base !== null);
  const owned = await acquire({ ...place, store, initial: { volumeBytes: SIZE_BYTES, root: base, storedBlocks } });
  const v1 = { id: "v1", comment: "", createdAt: "2026-01-01T00:00:00Z", automatic: false };
  await owned.addCheckpoint({ ...v1, root: base, storedBlocks });
  const packs = (await store.list(keys.packs)).objects;
  const pages = await pagesNow();
  const origin = originOf(base);
  const record = { id: "v1", thin: 2, createTime: v1.createdAt, comment: "", history: [], automatic: false, reason: null, origin };
  await first.update((state) => ({ ...state, nextThin: 10, basis: origin, live: { thin: 1, history: [], origin }, checkpoints: [record] }));
  model.thins.set(2, new Map());
  [model.below, model.live] = [thinOf("abcd"), thinOf(".B...F")];
  const life = await Life.begin(model, base);
  await life.durability.sync();
  for (const { key } of packs) await store.delete(key);
  const newest = keys.page((await readHead(store, keys.sprite("s1").head))?.head.root ?? "");
  for (const key of await pagesNow()) if (!pages.includes(key) && key !== newest) await store.delete(key);
  return { store, base, life };
}

async function statesIn(store: ObjectStore): Promise<string[]> {
  const head = (await readHead(store, keys.sprite("s1").head))?.head ?? assert.fail();
  const v1 = await readCheckpoint(store, keys.sprite("s1"), head, "v1");
  return [await lettersIn(store, head.root), await lettersIn(store, v1.root)];
}

for (const first of ["the next upload", "the next repair"]) {
  test(`whenever the pilot dies in a repair: ${first} goes on, and in the end all is there`, { timeout: 300_000 }, async () => {
    for (let steps = 0, isDone = false; !isDone; steps++) {
      using model = new StoredVolume();
      const { store, base, life: before } = await damagedSprite(model);
      {
        await using life = before;
        life.diesAfter(steps);
        await life.repair((await fsck({ store, org: "org" })).damage).catch(() => {});
        isDone = !life.isDead;
      }
      // It is a long time until the sprite runs again.
      await collectGarbage({ store, org: "org", graceMs: -1 });
      await using life = await Life.begin(model, base);
      const where = `died after ${steps} steps`;
      if (first === "the next upload") {
        model.live.set(6, "G");
        await life.durability.sync().catch(() => {});
      }
      const { damage } = await fsckAndRepair({ store, org: "org" }, (found) => life.repair(found));
      assert.deepEqual(damage, [], where);
      model.live.set(7, "H");
      await life.durability.sync();
      await collectGarbage({ store, org: "org", graceMs: -1 });
      const report = await fsck({ store, org: "org" });
      assert.deepEqual([report.damage, report.warnings], [[], []], where);
      const newest = first === "the next upload" ? "aBcd.FGH" : "aBcd.F.H";
      assert.deepEqual(await statesIn(store), [newest, "abcd...."], where);
    }
  });
}

test("a repair that fails is gone on with by the next, also when nothing is written to the volume meanwhile", {
  timeout: 300_000,
}, async () => {
  for (let steps = 0, isDone = false; !isDone; steps++) {
    using model = new StoredVolume();
    const { store, life: running } = await damagedSprite(model);
    await using life = running;
    life.failsAfter(steps);
    await life.repair((await fsck({ store, org: "org" })).damage).catch(() => {});
    isDone = !life.hasFailed;
    life.failsAfter(Number.POSITIVE_INFINITY);
    const { damage } = await fsckAndRepair({ store, org: "org" }, (found) => life.repair(found));
    assert.deepEqual([damage, await statesIn(store)], [[], ["aBcd.F..", "abcd...."]], `failed after ${steps} steps`);
  }
});
