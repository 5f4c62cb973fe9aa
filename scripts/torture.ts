/**
 * Does to sprites what nobody should, and reads back whatever was acknowledged; and sends every parser what nobody should send.
 *
 *   npm run torture [-- --seed N] [--fuzz N] [--storage N] [--operations N] [--no-vms]
 *   npm run torture -- --seed N --target NAME [--fuzz N] [--only INDEX]
 *
 * First every parser of bytes from outside (--fuzz inputs in all, default 120,000; 0 leaves it out): valid inputs and
 * mutations of them; none may make it crash, hang, leak, or fail with a 5xx. Then the storage alone, on a store that fails
 * (--storage operations, default 400). Then a real sprite on a real S3 server (--operations, default 40): writes, checkpoints,
 * restores, forks, deletions, gc and the loss of the host's copy, while the VMM, the pilot, the daemon and the S3 server are killed
 * at rest and in the middle of it, and the store refuses, hangs, drops connections, or is slow. The same seed makes the same
 * choices. Ends with 1 when anything was lost or a fault was found.
 */
import { MemoryStore } from "../packages/storage/test/support/memory-store.ts";
import { torture } from "../packages/storage/test/support/torture.ts";
import { countArgument, scriptArguments } from "./lib/arguments.ts";
import { Scratch } from "./lib/scratch.ts";
import { fuzz, targetNames } from "./torture/fuzz/run.ts";
import { MachineTorture } from "./torture/machine/torture.ts";

const USAGE = `npm run torture [-- --seed N] [--fuzz N] [--storage N] [--operations N] [--no-vms]
       npm run torture -- --seed N --target NAME [--fuzz N] [--only INDEX]

  --seed N        the same seed makes the same choices
  --fuzz N        inputs for the parsers of bytes from outside, in all; default 120000, 0 leaves them out
  --storage N     operations on the storage alone; default 400
  --operations N  operations on a real sprite, with kills and faults of its store; default 40, 0 leaves it out
  --no-vms        no real sprite
  --target NAME   this parser, and nothing else
  --only INDEX    this input of it, and no other

targets:
${targetNames()}`;

const { values } = scriptArguments(USAGE, {
  options: {
    seed: { type: "string" },
    fuzz: { type: "string", default: "120000" },
    target: { type: "string" },
    only: { type: "string" },
    operations: { type: "string", default: "40" },
    storage: { type: "string", default: "400" },
    "no-vms": { type: "boolean", default: false },
  },
});
Scratch.use();
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

async function tortureParsers(): Promise<void> {
  const inputs = countArgument("fuzz", values.fuzz);
  const only = values.only === undefined ? undefined : countArgument("only", values.only);
  if (inputs > 0 && !(await fuzz({ seed, inputs, target: values.target, only }))) process.exitCode = 1;
}

try {
  await tortureParsers();
  const operations = values["no-vms"] ? 0 : countArgument("operations", values.operations);
  if (values.target === undefined) await tortureStorage();
  if (values.target === undefined && operations > 0) {
    await using machine = await MachineTorture.start(seed);
    const report = await machine.run(operations);
    console.log(`sprite: ${report}; losses: 0; seed ${seed}`);
  }
} catch (error) {
  console.error(error);
  console.error(`seed ${seed}: something acknowledged was lost, or something is left`);
  process.exitCode = 1;
}
