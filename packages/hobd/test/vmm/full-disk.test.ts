import assert from "node:assert/strict";
import { test } from "node:test";
import { FullDisk } from "../../src/vmm/qemu/full-disk.ts";
import { until } from "../support/test-daemon.ts";

test("a VM on a full disk is tried again and counts as stalled until it has come through; others are left alone", async () => {
  let [status, isFull, resumed, asked] = ["io-error", true, 0, 0];
  const disk: FullDisk = new FullDisk({
    status: async () => {
      asked++;
      return status;
    },
    resume: async () => {
      resumed++;
      if (isFull) disk.noteError();
      else status = "running";
    },
    retryMs: 5,
    settleMs: 1,
  });
  disk.noteError();
  await until("it has stopped", () => disk.isStalled);
  await until("it is tried again and again", () => resumed >= 3);
  assert.equal(disk.isStalled, true);
  isFull = false;
  await until("it goes on", () => !disk.isStalled);
  for (const other of ["running", "paused"]) {
    [status, resumed, asked] = [other, 0, 0];
    disk.noteError();
    await until("it is looked at", () => asked > 0);
    assert.deepEqual([resumed, disk.isStalled], [0, false], other);
  }
  status = "io-error";
  await until("the next time is noticed as well", () => {
    disk.noteError();
    return disk.isStalled;
  });
  await until("it goes on", () => !disk.isStalled);
});

test("a VM that is found stopped counts as stalled at once, until it goes on", async () => {
  let status = "io-error";
  const resume = async () => {
    status = "running";
  };
  const disk = new FullDisk({ status: async () => status, resume, retryMs: 1, settleMs: 1 });
  disk.noteStalled();
  assert.ok(disk.isStalled);
  await until("it goes on", () => !disk.isStalled);
  assert.equal(status, "running");
});

test("a VM that somebody else has to stand still is not let go on, and is when that is over", async () => {
  let [status, resumed, asked] = ["io-error", 0, 0];
  const going = Promise.withResolvers<void>();
  const disk = new FullDisk({
    status: async () => {
      asked++;
      return status;
    },
    resume: async () => {
      resumed++;
      if (resumed === 1) return going.promise;
      status = "running";
    },
    retryMs: 1,
    settleMs: 1,
  });
  disk.noteError();
  await until("it is let go on", () => resumed === 1);
  let isStill = false;
  const work = disk.standingStill(async () => {
    isStill = true;
    const before = asked;
    await until("it is looked at again and again", () => asked > before + 6);
    assert.equal(resumed, 1, "QEMU says io-error all the while");
    throw new Error("as the test asked");
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isStill, false, "what lets it go on is under way");
  going.resolve();
  await assert.rejects(work, /as the test asked/);
  await until("it goes on", () => !disk.isStalled);
  assert.equal(resumed, 2);
});
