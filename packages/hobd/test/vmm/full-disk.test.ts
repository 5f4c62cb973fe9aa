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
