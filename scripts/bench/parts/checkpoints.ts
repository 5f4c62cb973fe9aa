import { setTimeout as sleep } from "node:timers/promises";
import type { BenchContext, Part } from "../part.ts";
import { type Row, Series } from "../stats.ts";
import { BenchDaemon, type CheckpointLine } from "../subjects/daemon.ts";
import { timeMs } from "../subjects/machine.ts";

const NAME = "checkpoints";
const PATH = `/v1/sprites/${NAME}`;
/** written anew before each checkpoint: what is dirty when it is taken */
const DIRTY_MB = 10;
const DURABLE_TIMEOUT_MS = 40 * 60_000;
/** Each look takes some of the processor that the upload needs. */
const LOOK_EVERY_MS = 250;

/** What a checkpoint costs those who write, how long until the store has it, and how long a restore and a fork take. */
export const checkpointsPart: Part = {
  name: "checkpoints",
  title: "checkpoint, restore, fork by size",
  boundMinutes: { quick: 10, full: 110 },
  async run(context) {
    const [n, sizes] = context.quick ? [3, [10, 1_000]] : [5, [10, 1_000, 8_000]];
    const daemon = await BenchDaemon.start(context);
    await daemon.create(NAME);
    const measured: Measured[] = [];
    for (const mb of sizes) {
      const written = measured.at(-1)?.mb ?? 0;
      context.progress(`writing ${mb - written} MB`);
      await fill(daemon, written, mb);
      measured.push(await measure(context, daemon, mb, n));
    }
    const [smallest] = measured;
    return measured.flatMap((one) => rowsOf(one, n, one === smallest ? undefined : smallest));
  },
};

/** Data that does not compress, in files of 10 MB; a program each, so that no request takes long. */
async function fill(daemon: BenchDaemon, from: number, to: number): Promise<void> {
  const shell = (script: string) => daemon.sprite(NAME).execFile("sh", ["-c", script]);
  await shell("mkdir -p ~/data");
  for (let at = from; at < to; at += 100) {
    const files = Array.from({ length: Math.min(100, to - at) / DIRTY_MB }, (_, i) => at / DIRTY_MB + i + 1).join(" ");
    await shell(`for i in ${files}; do head -c ${DIRTY_MB}000000 /dev/urandom > ~/data/$i; done`);
  }
  await shell("sync");
}

type Series5 = Record<"pause" | "taken" | "durable" | "restore" | "fork", Series>;
type Measured = Series5 & { mb: number; firstDurableMs: number };

async function measure(context: BenchContext, daemon: BenchDaemon, mb: number, n: number): Promise<Measured> {
  const series: Series5 = { pause: new Series(), taken: new Series(), durable: new Series(), restore: new Series(), fork: new Series() };
  context.progress(`at ${mb} MB: the first checkpoint, until it is durable`);
  const firstDurableMs = await timeMs(async () => {
    const { id } = await daemon.lastLine(`${PATH}/checkpoint`);
    await durable(daemon, id);
  });
  // All of one kind before the other: after a restore the state before it is brought into the store first.
  const ids: (string | undefined)[] = [];
  for (let round = 1; round <= n; round++) {
    context.progress(`at ${mb} MB, checkpoint ${round} of ${n}`);
    ids.push(await measureCheckpoint(daemon, series));
  }
  for (const [round, id] of ids.entries()) {
    context.progress(`at ${mb} MB, restore and fork ${round + 1} of ${n}`);
    context.progress(`  restored: ${await measureRestore(daemon, series, id)}`);
    await measureFork(daemon, series, { id, name: `fork-${round}`, files: mb / DIRTY_MB });
  }
  return { mb, firstDurableMs, ...series };
}

async function measureCheckpoint(daemon: BenchDaemon, series: Series5): Promise<string | undefined> {
  await daemon.sprite(NAME).execFile("sh", ["-c", `head -c ${DIRTY_MB}000000 /dev/urandom > ~/data/1`]);
  const start = performance.now();
  const { id, pauseMs = Number.NaN } = await daemon.lastLine(`${PATH}/checkpoint`);
  series.taken.add(performance.now() - start);
  series.pause.add(pauseMs);
  await durable(daemon, id);
  series.durable.add(performance.now() - start);
  return id;
}

/** @returns what took how long */
async function measureRestore(daemon: BenchDaemon, series: Series5, id: string | undefined): Promise<string> {
  let steps: CheckpointLine["steps"];
  const ms = await timeMs(async () => {
    ({ steps } = await daemon.lastLine(`${PATH}/checkpoints/${id}/restore`));
    await daemon.sprite(NAME).execFile("true");
  });
  series.restore.add(ms);
  return [...(steps ?? []), { name: "all", ms }].map((step) => `${step.name} ${Math.round(step.ms)} ms`).join(", ");
}

interface Fork {
  /** of the checkpoint */
  id: string | undefined;
  name: string;
  /** that it must have */
  files: number;
}

async function measureFork(daemon: BenchDaemon, series: Series5, { id, name, files }: Fork): Promise<void> {
  const ms = await timeMs(async () => {
    await daemon.request("POST", `${PATH}/fork`, { name, checkpoint: id });
    const { stdout } = await daemon.sprite(name).execFile("sh", ["-c", "ls ~/data | wc -l"]);
    if (Number(stdout) !== files) throw new Error(`the fork has ${stdout} files`);
  });
  series.fork.add(ms);
  await daemon.client.deleteSprite(name);
}

async function durable(daemon: BenchDaemon, id: string | undefined): Promise<void> {
  const deadline = performance.now() + DURABLE_TIMEOUT_MS;
  while (performance.now() < deadline) {
    const checkpoint = await daemon.request<{ durable?: boolean }>("GET", `${PATH}/checkpoints/${id}`);
    if (checkpoint.durable === true) return;
    await sleep(LOOK_EVERY_MS);
  }
  throw new Error(`checkpoint ${id} is not durable after ${DURABLE_TIMEOUT_MS / 60_000} minutes`);
}

function rowsOf({ mb, firstDurableMs, pause, taken, durable, restore, fork }: Measured, n: number, smallest: Measured | undefined): Row[] {
  const held = (row: Row, of: (measured: Measured) => Series): Row =>
    smallest === undefined ? row : { ...row, beside: { what: `at ${smallest.mb} MB`, value: of(smallest).p50 } };
  const at = `at ${mb} MB`;
  const dirty = `${DIRTY_MB} MB of it new`;
  const ms = { unit: "ms", n } as const;
  const rows: Row[] = [
    held({ what: `checkpoint ${at}, pause, p50`, value: pause.p50, ...ms, budget: { kind: "value", limit: 150 } }, (one) => one.pause),
  ];
  if (smallest !== undefined)
    rows.push(held({ what: `the same as a ratio`, value: pause.p50, ...ms, budget: { kind: "ratio", limit: 1.2 } }, (one) => one.pause));
  return [
    ...rows,
    held({ what: `checkpoint ${at}, until it is taken, p50`, value: taken.p50, ...ms, note: dirty }, (one) => one.taken),
    held({ what: `checkpoint ${at}, until it is durable, p50`, value: durable.p50, ...ms, note: dirty }, (one) => one.durable),
    {
      what: `first checkpoint ${at}, until it is durable`,
      value: firstDurableMs / 1000,
      unit: "s",
      n: 1,
      note: "what was not uploaded while it was written",
    },
    held(
      { what: `restore ${at} → first exec output, p50`, value: restore.p50, ...ms, budget: { kind: "value", limit: 1500 } },
      (one) => one.restore,
    ),
    held({ what: `fork ${at} → first exec output, p50`, value: fork.p50, ...ms }, (one) => one.fork),
  ];
}
