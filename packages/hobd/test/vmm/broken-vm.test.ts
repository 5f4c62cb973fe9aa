import assert from "node:assert/strict";
import { test } from "node:test";
import { endIfBroken } from "../../src/vmm/qemu/broken-vm.ts";

test("a VM that can never go on is ended; one that was stopped for another reason, or is gone, is left alone", async () => {
  const ended = async (status: () => Promise<string>) => {
    let killed = 0;
    await endIfBroken({
      status,
      kill: async () => {
        killed++;
      },
    });
    return killed === 1;
  };
  assert.equal(await ended(async () => "internal-error"), true);
  for (const other of ["paused", "io-error", "postmigrate", "running"]) assert.equal(await ended(async () => other), false, other);
  assert.equal(await ended(() => Promise.reject(new Error("the VMM has ended"))), false);
});
