import { Worker } from "node:worker_threads";
import type { FoundFault, TargetReport } from "./engine.ts";
import { TARGETS } from "./registry.ts";
import type { Target } from "./target.ts";
import type { WorkerTask } from "./worker.ts";

/** Milliseconds without a new input after which a target counts as one that hangs; it may have to build the helper first. */
const STALL_MS = 120_000;
const LOOK_MS = 1_000;

export interface FuzzOptions {
  seed: number;
  /** over all targets, by their weights */
  inputs: number;
  /** of this target only */
  target?: string | undefined;
  /** the number of one input, which is tried alone */
  only?: number | undefined;
}

/** The targets that can be tried here, and how many inputs each gets: at least as many as were asked for in all. */
export function shares(targets: readonly Target[], inputs: number): Map<Target, number> {
  const sum = targets.reduce((all, { weight }) => all + weight, 0);
  return new Map(targets.map((one) => [one, Math.ceil((inputs * one.weight) / sum)]));
}

/** Tries all targets, one after the other, and prints what came of it. @returns whether no fault was found */
export async function fuzz({ seed, inputs, target, only }: FuzzOptions): Promise<boolean> {
  const chosen = TARGETS.filter(({ name }) => target === undefined || name === target);
  const possible = chosen.filter((one) => {
    const why = one.unavailable?.();
    if (why !== undefined) console.log(`${one.name}: not tried, ${why}`);
    return why === undefined;
  });
  const reports: TargetReport[] = [];
  console.log(HEADINGS);
  for (const [one, count] of shares(possible, inputs)) {
    const report = await inThread({ name: one.name, seed, inputs: count, only });
    reports.push(report);
    console.log(lineOf(report));
    for (const fault of report.faults) console.log(describe(report.name, seed, fault));
  }
  console.log(lineOf(total(reports)));
  return reports.length > 0 && reports.every(({ faults }) => faults.length === 0);
}

/** Names and what each of them is fed with, for `--help`. */
export const targetNames = (): string => TARGETS.map(({ name, summary }) => `  ${name.padEnd(20)} ${summary}`).join("\n");

function inThread(task: Omit<WorkerTask, "progress">): Promise<TargetReport> {
  const progress = new SharedArrayBuffer(4);
  const newest = new Int32Array(progress);
  newest[0] = -1;
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData: { ...task, progress } satisfies WorkerTask });
  return new Promise((resolve) => {
    let last = -1;
    let stalledMs = 0;
    let report: TargetReport | undefined;
    const fail = (kind: FoundFault["kind"], message: string) => {
      const index = Atomics.load(newest, 0);
      const fault = { kind, index, message, input: "" };
      report ??= { name: task.name, inputs: index + 1, accepted: 0, refused: 0, seconds: 0, faults: [fault] };
    };
    const timer = setInterval(() => {
      const now = Atomics.load(newest, 0);
      stalledMs = now === last ? stalledMs + LOOK_MS : 0;
      last = now;
      if (stalledMs < STALL_MS) return;
      fail("hang", `nothing happened for ${STALL_MS / 1_000} s`);
      void worker.terminate();
    }, LOOK_MS);
    worker.once("message", (found: TargetReport) => {
      report = found;
      // Whatever a target has left open must not keep the next one waiting.
      void worker.terminate();
    });
    worker.once("error", (error) => fail("crash", `the thread has ended: ${error.stack ?? error.message}`));
    worker.once("exit", () => {
      clearInterval(timer);
      fail("crash", "the thread has ended");
      if (report !== undefined) resolve(report);
    });
  });
}

const COLUMNS = ["inputs", "accepted", "refused", "crashes", "hangs", "5xx", "wrong", "leaks", "inputs/s"] as const;
const HEADINGS = `${"target".padEnd(20)}${COLUMNS.map((name) => name.padStart(10)).join("")}`;

function lineOf({ name, inputs, accepted, refused, seconds, faults }: TargetReport): string {
  const count = (kind: FoundFault["kind"]) => faults.filter((fault) => fault.kind === kind).length;
  const numbers = [
    inputs,
    accepted,
    refused,
    count("crash"),
    count("hang"),
    count("5xx"),
    count("wrong"),
    count("leak"),
    Math.round(inputs / Math.max(seconds, 0.001)),
  ];
  return `${name.padEnd(20)}${numbers.map((number) => String(number).padStart(10)).join("")}`;
}

function total(reports: readonly TargetReport[]): TargetReport {
  const sum = (of: (report: TargetReport) => number) => reports.reduce((all, report) => all + of(report), 0);
  return {
    name: "all",
    inputs: sum(({ inputs }) => inputs),
    accepted: sum(({ accepted }) => accepted),
    refused: sum(({ refused }) => refused),
    seconds: sum(({ seconds }) => seconds),
    faults: reports.flatMap(({ faults }) => faults),
  };
}

function describe(name: string, seed: number, { kind, index, message, input }: FoundFault): string {
  const again = index < 0 ? "" : `\n  again: npm run torture -- --seed ${seed} --target ${name} --only ${index}`;
  return `${kind} of ${name}, input ${index}: ${message}\n  input: ${input}${again}`;
}
