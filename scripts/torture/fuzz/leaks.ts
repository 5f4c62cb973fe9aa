import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Objects of node that hold the process open, and bytes that the collector could not free. */
export interface Held {
  readonly resources: number;
  readonly bytes: number;
}

/** A collector cannot tell what will never be used; it needs several rounds for what is freed by finalizers. */
const ROUNDS = 4;
/** Milliseconds in which sockets and timers under way must have come to an end. */
const PATIENCE_MS = 15_000;

/** Looks, 20 ms apart, in which nothing more has ended. */
const CALM_TURNS = 15;

/** Growth of memory that is no leak: code that was compiled, tables that grew, statistics. */
const NOISE_BYTES = 4 * 1024 * 1024;
const BYTES_PER_INPUT = 384;

let collect: (() => void) | undefined;

function collector(): () => void {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
  }
  return collect;
}

const countResources = (): number => process.getActiveResourcesInfo().filter((name) => name !== "Immediate").length;

/** What is held after everything had time to end. @param allowed resources that stay; not known yet: as many as stay for a while */
export async function held(allowed?: number): Promise<Held> {
  const gc = collector();
  const deadline = performance.now() + PATIENCE_MS;
  let least = countResources();
  for (let calm = 0; calm < CALM_TURNS && performance.now() < deadline; calm++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = countResources();
    if (now < least || (allowed !== undefined && now > allowed)) calm = 0;
    least = Math.min(least, now);
  }
  for (let round = 0; round < ROUNDS; round++) {
    gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return { resources: countResources(), bytes: heapUsed + external };
}

/** Says what was not given back; undefined if all was. */
export function leakBetween(before: Held, after: Held, inputs: number): string | undefined {
  if (after.resources > before.resources) return `${after.resources - before.resources} sockets, timers or files more than before`;
  const grown = after.bytes - before.bytes;
  return grown > NOISE_BYTES + BYTES_PER_INPUT * inputs ? `${Math.round(grown / 1024)} KiB more after ${inputs} inputs` : undefined;
}
