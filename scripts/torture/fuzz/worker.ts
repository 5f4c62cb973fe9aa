/** Tries one target in a thread of its own: what hangs can be ended, and what one target leaves is not another's. */
import { parentPort, workerData } from "node:worker_threads";
import { runTarget } from "./engine.ts";
import { TARGETS } from "./registry.ts";

export interface WorkerTask {
  name: string;
  seed: number;
  inputs: number;
  only: number | undefined;
  /** Int32: the newest input */
  progress: SharedArrayBuffer;
}

const { name, progress, ...options } = workerData as WorkerTask;
const newest = new Int32Array(progress);
const target = TARGETS.find((one) => one.name === name);
if (target === undefined) throw new Error(`there is no target ${name}`);
parentPort?.postMessage(await runTarget(target, { ...options, leaks: true, onInput: (index) => Atomics.store(newest, 0, index) }));
