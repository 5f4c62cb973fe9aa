import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { type CheckpointMountParts, CheckpointMounts } from "../src/checkpoints/checkpoint-mounts.ts";
import { PATHS } from "../src/config.ts";
import type { CheckpointRecord } from "../src/volume/ledger.ts";

const recordOf = (number: number): CheckpointRecord => ({
  ...{ id: `v${number}`, thin: number, createTime: "", comment: "", history: [] },
  ...{ automatic: false, reason: null, origin: null },
});

describe("mounts of checkpoints", () => {
  /** devices that are active */
  let active: Set<number>;
  let mounts: CheckpointMounts;
  /** awaited by each mount */
  let mounting: (thin: number) => Promise<void>;
  let directory: string;
  const paths = PATHS as { checkpoints: string; checkpointVolumes: string };
  const before = { ...paths };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "hob-mounts-"));
    Object.assign(paths, { checkpoints: join(directory, "roots"), checkpointVolumes: join(directory, "volumes") });
    active = new Set();
    mounting = async () => {};
    const activateReadOnly = async (thin: number) => {
      await mounting(thin);
      active.add(thin);
      return { device: `thin-${thin}`, [Symbol.asyncDispose]: async () => void active.delete(thin) };
    };
    const none = async () => {};
    const parts = { volume: { pool: { activateReadOnly } }, rootfs: { mountReadOnly: none }, helper: { idmapMount: none, unmount: none } };
    mounts = new CheckpointMounts(parts as unknown as CheckpointMountParts);
  });
  afterEach(() => {
    Object.assign(paths, before);
    rmSync(directory, { recursive: true });
  });

  test("what is lent stays until it is given back and idle, also when others are to be seen", async () => {
    await mounts.lend(recordOf(1));
    await mounts.lend(recordOf(1));
    await mounts.show([recordOf(2)]);
    assert.deepEqual([...active], [1, 2]);
    mounts.giveBack("v1");
    await mounts.hideIdle("v1");
    assert.ok(active.has(1), "one still looks at it");
    mounts.giveBack("v1");
    await mounts.hideIdle("v1");
    assert.deepEqual([...active], [2]);
  });

  test("what is to be seen always is not hidden when it is idle; what is deleted is, whoever looks", async () => {
    await mounts.show([recordOf(1)]);
    await mounts.lend(recordOf(1));
    mounts.giveBack("v1");
    await mounts.hideIdle("v1");
    assert.ok(active.has(1));
    await mounts.lend(recordOf(1));
    const hidden = mounts.hide("v1");
    assert.deepEqual([[...active], mounts.has("v1")], [[1], false], "that is said before anything of it is missing");
    await hidden;
    mounts.giveBack("v1");
    assert.deepEqual([...active], []);
  });

  test("what is hidden while it is being mounted does not come to be, and nobody waits for it", { timeout: 30_000 }, async () => {
    const [begun, store] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    mounting = (thin) => {
      if (thin !== 1) return Promise.resolve();
      begun.resolve();
      return store.promise;
    };
    const shown = mounts.show([recordOf(1), recordOf(2)]);
    await begun.promise;
    const [lent, other] = [mounts.lend(recordOf(1)), mounts.lend(recordOf(3))];
    await other;
    await mounts.hide("v1");
    await mounts.hide("v2");
    const again = mounts.lend(recordOf(1));
    mounting = async () => {};
    store.resolve();
    await assert.rejects(lent, (error) => error instanceof HobError && error.code === "conflict");
    await again;
    assert.deepEqual(await shown, [], "neither is missed");
    assert.deepEqual([...active].sort(), [1, 3]);
    mounts.giveBack("v1");
    await mounts.hideIdle("v1");
    await mounts.hideAll();
    assert.deepEqual([...active], []);
  });

  test("each mount waits until it may, and none of those comes that a later call does not name", { timeout: 30_000 }, async () => {
    const [asked, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const mayMount = () => {
      asked.resolve();
      return go.promise;
    };
    const first = mounts.show([recordOf(1), recordOf(2)], mayMount);
    await asked.promise;
    assert.deepEqual([...active], []);
    await mounts.show([recordOf(2)]);
    go.resolve();
    assert.deepEqual(await first, []);
    assert.deepEqual([...active], [2]);
  });

  test("an end waits for what is being mounted, and nothing is mounted after it", { timeout: 30_000 }, async () => {
    const [begun, store] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    mounting = () => {
      begun.resolve();
      return store.promise;
    };
    const shown = mounts.show([recordOf(1), recordOf(2)]);
    await begun.promise;
    const ended = mounts.hideAll();
    mounting = async () => {};
    store.reject(new Error("no store any more"));
    await Promise.all([shown, ended]);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([...active], []);
  });

  test("no more than eight further ones are mounted; the idle one that was lent the longest ago gives way", async () => {
    for (let number = 1; number <= 8; number++) await mounts.lend(recordOf(number));
    await assert.rejects(mounts.lend(recordOf(9)), (error) => error instanceof HobError && error.code === "conflict");
    for (const id of ["v5", "v3"]) mounts.giveBack(id);
    await mounts.lend(recordOf(9));
    assert.deepEqual([active.has(3), active.has(5), active.size], [false, true, 8]);
    await mounts.hideAll();
    assert.equal(active.size, 0);
  });
});
