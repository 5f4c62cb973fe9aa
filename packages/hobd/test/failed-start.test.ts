import assert from "node:assert/strict";
import { test } from "node:test";
import { HobError } from "@hob/protocol";
import { explainStart } from "../src/runtime/failed-start.ts";

test("a start that fails on a full disk says so, and every other one what it said", async () => {
  const failed = new HobError("vm_failed", "start the microVM: the VMM ended at once");
  const explained = (error: unknown, free: number) => explainStart(error, "/", async () => free);
  const full = await explained(failed, 4096);
  assert.ok(full instanceof HobError && full.code === "no_space" && full.cause === failed && full.hint?.includes("make room"));
  assert.equal(await explained(failed, 1024 ** 3), failed);
  assert.equal(await explainStart(failed, "/no/such/folder"), failed);
  const missing = new HobError("missing_tool", "start QEMU: not found");
  assert.equal(await explained(missing, 0), missing);
});
