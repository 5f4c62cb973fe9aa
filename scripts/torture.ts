/**
 * Does to sprites what nobody should, and reads back whatever was acknowledged.
 *
 *   npm run torture [-- --seed N] [--operations N] [--storage N] [--no-vms]
 *
 * First the storage alone, on a store that fails (--storage operations, default 400); then a real sprite (--operations,
 * default 40): writes, checkpoints, restores, forks, deletions and gc, with kill -9 of the VMM and of the daemon between
 * and during them. The same seed makes the same choices. Ends with 1 when anything was lost.
 */
import { MemoryStore } from "../packages/storage/test/support/memory-store.ts";
import { torture } from "../packages/storage/test/support/torture.ts";
import { countArgument, scriptArguments } from "./lib/arguments.ts";
import { MachineTorture } from "./torture/machine.ts";

const { values } = scriptArguments("npm run torture [-- --seed N] [--operations N] [--storage N] [--no-vms]", {
  options: {
    seed: { type: "string" },
    operations: { type: "string", default: "40" },
    storage: { type: "string", default: "400" },
    "no-vms": { type: "boolean", default: false },
  },
});
const seed = countArgument("seed", values.seed ?? String(Date.now() % 1_000_000));
console.log(`seed ${seed}`);

async function tortureStorage(): Promise<void> {
  const store = new MemoryStore();
  let passedMs = 0;
  store.now = () => Date.now() + passedMs;
  const advance = (ms: number): void => {
    passedMs += ms;
  };
  const { operations, ...report } = await torture({ seed, operations: countArgument("storage", values.storage), store, advance });
  console.log("storage:", JSON.stringify({ ...operations, ...report }), "losses: 0");
}

try {
  await tortureStorage();
  if (!values["no-vms"]) {
    await using machine = await MachineTorture.start(seed);
    const report = await machine.run(countArgument("operations", values.operations));
    console.log("sprite:", JSON.stringify(report), "losses: 0");
  }
} catch (error) {
  console.error(error);
  console.error(`seed ${seed}: something acknowledged was lost, or something is left`);
  process.exitCode = 1;
}
