import assert from "node:assert/strict";
import { test } from "node:test";
import { MachineTorture } from "../../scripts/torture/machine/torture.ts";

/** Each kind of kill once, in the middle of something, and a host that is lost. `npm run torture` goes on for longer, and with other seeds. */
const SEED = 275937;
const OPERATIONS = 8;
/** Kills mean boots, which take long where the processor is emulated and busy. */
const LIMIT = { timeout: 600_000 };

test("a sprite loses nothing that was acknowledged, whatever is killed, and leaves nothing", LIMIT, async () => {
  await using torture = await MachineTorture.start(SEED);
  const report = await torture.run(OPERATIONS);
  assert.deepEqual(Object.keys(report.kills).sort(), ["daemon", "pilot", "store", "vmm"]);
  console.log(`${report}; losses: 0; seed ${SEED}`);
});
