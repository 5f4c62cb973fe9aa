import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { HobError, type StorageAssignment } from "@hob/protocol";
import { acquire, type ObjectStore, OrgKeys, readHead } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { pino } from "pino";
import { Durability, type DurabilityParts } from "../src/durability/durability.ts";
import { settle } from "../src/durability/settle.ts";
import { parseTransactions } from "../src/volume/journal.ts";
import type { CheckpointRecord } from "../src/volume/ledger.ts";

const ASSIGNMENT: StorageAssignment = { organization: "hob", spriteId: "sprite-1", owner: "here", epoch: 1 };
const GENEROUS_MS = 30_000;
const NO_STATS = { blocks: 0, zeroBlocks: 0, unchangedBlocks: 0, reusedBlocks: 0, bytesRead: 0, bytesUploaded: 0, packs: 0, pages: 0 };

type Upload = DurabilityParts["upload"];

/** A volume of which only the numbers are there; the store is a real one. */
class Volume implements Upload {
  written = 8;
  uploads: string[] = [];
  checkpoints: CheckpointRecord[] = [];
  /** what uploads wait for */
  gate: Promise<unknown> = Promise.resolve();
  /** what happens while something is uploaded */
  meanwhile: (what: string) => void = () => {};

  isFor(): boolean {
    return true;
  }

  bases(): string[] {
    return [];
  }

  async writtenMark(): Promise<string> {
    return String(this.written);
  }

  undo: string | null = null;

  async live() {
    const written = String(this.written);
    return { ...(await this.#uploaded("live")), history: [], undo: this.undo, written };
  }

  /** what was written when the newest checkpoint was taken; undefined: something was since */
  writtenAtNewest: number | undefined;

  async asLive() {
    return this.writtenAtNewest === this.written ? { history: ["v1"], undo: this.undo, written: String(this.written) } : undefined;
  }

  /** what is left of a checkpoint when it is about to be uploaded */
  find: (id: string) => Promise<void> = async () => {};

  async checkpoint({ id }: CheckpointRecord) {
    await this.find(id);
    return await this.#uploaded(id);
  }

  take(id: string): void {
    const record = {
      id,
      thin: 7,
      createTime: new Date().toISOString(),
      comment: "",
      history: [],
      automatic: true,
      reason: "sleep",
      origin: null,
    };
    this.checkpoints = [...this.checkpoints, record];
  }

  async #uploaded(what: string) {
    await this.gate;
    this.meanwhile(what);
    this.uploads.push(what);
    const result = { root: "a".repeat(64), storedBlocks: 1, stats: NO_STATS, startedAt: Date.now() };
    return { result, keep: async () => {}, [Symbol.asyncDispose]: async () => {} };
  }
}

describe("before a sleep", () => {
  let directory = "";
  let store: ObjectStore;
  let volume: Volume;
  let durability: Durability;
  let numbers = { nextVersion: 1, nextAutomatic: 1 };
  const begin = (over: ObjectStore = store) => {
    const log = pino({ level: "silent" });
    durability = new Durability({ store: over, upload: volume, log, intervalMs: 3_600_000, numbers: () => numbers });
    durability.assign(ASSIGNMENT);
  };
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "hob-durability-"));
    store = await DirectoryStore.open(directory);
    volume = new Volume();
    numbers = { nextVersion: 1, nextAutomatic: 1 };
    await acquire({ store, org: "hob", sprite: "sprite-1", owner: "here", initial: { volumeBytes: 1 << 30 } });
  });
  afterEach(async () => {
    await durability[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  test("the head learns which numbers checkpoints had, but of none that has still to come into the store", {
    timeout: GENEROUS_MS,
  }, async () => {
    begin();
    await durability.sync();
    const head = async () => (await readHead(store, new OrgKeys("hob").sprite("sprite-1").head))?.head ?? assert.fail();
    // `v1` and `auto-1` were taken and deleted; nothing else was changed.
    numbers = { nextVersion: 2, nextAutomatic: 2 };
    const uploads = volume.uploads.length;
    durability.nudge();
    while ((await head()).lastAutomatic !== 1) await setImmediate();
    assert.deepEqual([(await head()).lastCheckpoint, volume.uploads.length], [1, uploads]);
    // `v3` is taken while the volume is uploaded, and `v2` and `v4` are gone by then.
    volume.written += 8;
    volume.meanwhile = (what) => {
      if (what !== "live" || numbers.nextVersion === 5) return;
      volume.take("v3");
      numbers = { nextVersion: 5, nextAutomatic: 2 };
    };
    await durability.sync();
    assert.deepEqual([(await head()).lastCheckpoint, (await head()).checkpoints], [2, []]);
    const { writeId } = await head();
    assert.equal(await durability.settle(GENEROUS_MS), null);
    assert.deepEqual([...(durability.durableIds() ?? []), (await head()).lastCheckpoint], ["v3", 4]);
    assert.notEqual((await head()).writeId, writeId);
    const last = (await head()).writeId;
    await durability.settle(GENEROUS_MS);
    assert.equal((await head()).writeId, last, "it is written for what it does not know only");
  });

  test("what the store lacks is brought there; nothing is done when it lacks nothing", async () => {
    begin();
    assert.equal(await durability.settle(GENEROUS_MS), null);
    const before = volume.uploads.length;
    assert.equal(await durability.settle(GENEROUS_MS), null);
    assert.equal(await durability.isBehind(), false);
    assert.equal(volume.uploads.length, before, "no upload and no new head for an idle sprite");
    volume.written += 8;
    volume.take("auto-1");
    assert.equal(await durability.settle(GENEROUS_MS), null);
    assert.deepEqual(volume.uploads.slice(before), ["auto-1", "live"]);
    assert.deepEqual([...(durability.durableIds() ?? [])], ["auto-1"]);
  });

  test("the state of the newest checkpoint is not brought there twice, unless something was written since, or may be in memory only", async () => {
    begin();
    await durability.sync();
    const settleAfter = async (id: string, wrote: number) => {
      volume.written += 8;
      volume.writtenAtNewest = volume.written;
      volume.take(id);
      volume.written += wrote;
      volume.uploads = [];
      assert.equal(await durability.settle(GENEROUS_MS), null);
      return volume.uploads;
    };
    assert.deepEqual(await settleAfter("auto-1", 0), ["auto-1"]);
    const head = await readHead(store, new OrgKeys("hob").sprite("sprite-1").head);
    assert.deepEqual([head?.head.parent, head?.head.checkpoints.length], ["v1", 1], "the head's own state is that of the checkpoint");
    assert.deepEqual(await settleAfter("auto-2", 8), ["auto-2", "live"]);
    volume.uploads = [];
    await durability.sync();
    assert.deepEqual(volume.uploads, ["live"]);
  });

  test("the lag counts from the oldest checkpoint that the store lacks, and from the upload during which something was written", async () => {
    let now = Date.now();
    durability = new Durability({ store, upload: volume, log: pino({ level: "silent" }), intervalMs: 3_600_000, now: () => now });
    durability.assign(ASSIGNMENT);
    await durability.sync();
    const lag = async () => (await durability.status()).durable_lag_seconds;
    assert.equal(await lag(), 0);
    volume.take("v1");
    now += 60_000;
    assert.ok((await lag()) >= 59, "taken a minute ago, though nothing was written since");
    volume.meanwhile = (what) => {
      if (what !== "live") return;
      volume.written += 8;
      now += 30_000;
    };
    await durability.sync();
    now += 10_000;
    assert.equal(await lag(), 40);
  });

  test("a checkpoint that is deleted before its turn keeps nothing else from the store; one that cannot be read does", async () => {
    begin();
    await durability.sync();
    for (const id of ["v1", "v2", "v3"]) volume.take(id);
    const isGone = () => Promise.reject(new HobError("helper_failed", "send a message to pool: No data available"));
    volume.find = async (id) => {
      if (id !== "v2") return;
      volume.checkpoints = volume.checkpoints.filter((one) => one.id !== id);
      await isGone();
    };
    await durability.sync();
    assert.deepEqual([...(durability.durableIds() ?? [])], ["v1", "v3"]);
    volume.take("v4");
    volume.find = isGone;
    await assert.rejects(durability.sync(), /No data available/);
  });

  test("a slow store is not waited for, is told of, and gets the rest later", async () => {
    begin();
    await durability.sync();
    const slow = Promise.withResolvers<void>();
    volume.gate = slow.promise;
    volume.written += 8;
    volume.take("auto-1");
    const lag = await durability.settle(20);
    assert.deepEqual([lag?.checkpoints, lag?.error], [1, null]);
    slow.resolve();
    await durability.sync();
    assert.equal(await durability.settle(GENEROUS_MS), null);
  });

  test("who waits hears nothing of a failure that passes, and hears of one that stays", async () => {
    begin();
    await durability.sync();
    const fails = (times: number) => async () => {
      if (times-- > 0) throw new HobError("store_unavailable", "the connection was lost");
    };
    volume.take("v1");
    volume.find = fails(1);
    await durability.sync();
    assert.deepEqual([...(durability.durableIds() ?? [])], ["v1"]);
    volume.take("v2");
    volume.find = fails(2);
    await assert.rejects(durability.sync(), /the connection was lost/);
  });

  test("a store that is away is not waited for", async () => {
    const away = new Proxy(store, {
      get: (target, name) =>
        name === "get"
          ? () => Promise.reject(new HobError("store_failed", "no way there"))
          : (Reflect.get(target, name) as (...args: unknown[]) => unknown).bind?.(target),
    });
    begin(away);
    volume.take("auto-1");
    const lag = await durability.settle(GENEROUS_MS);
    assert.deepEqual([lag?.checkpoints, lag?.error], [1, "no way there"]);
  });

  test("without a store there is nothing to wait for", async () => {
    begin();
    durability.assign(undefined);
    assert.equal(await durability.settle(GENEROUS_MS), null);
  });

  test("a checkpoint that cannot be taken, or not in time, keeps no sprite awake", async () => {
    begin();
    const errors: unknown[] = [];
    const parts = { durability, onError: (error: unknown) => void errors.push(error) };
    const full = { automatic: () => Promise.reject(new HobError("no_space", "full")) };
    assert.equal(await settle({ ...parts, checkpoints: full }, GENEROUS_MS), null);
    assert.equal((errors[0] as HobError).code, "no_space");
    const never = { automatic: () => new Promise<undefined>(() => {}) };
    assert.equal(await settle({ ...parts, checkpoints: never }, 20), null);
  });
});

test("the number of transactions is read as the kernel writes it", () => {
  assert.equal(parseTransactions("1 transactions (1 requested), each up to 1024 blocks\naverage: \n  0ms waiting"), 1);
  assert.equal(parseTransactions("48121 transactions (7 requested), each up to 8192 blocks\n"), 48121);
  assert.throws(() => parseTransactions("average:"));
});
