import { setTimeout as sleep } from "node:timers/promises";

/** For anything that is asked for, however much is killed and however slow the machine is. */
const LIMIT_MS = 240_000;
const PAUSE_MS = 500;

/** What no kill and no fault of the store excuses: something is lost, damaged, left, or never ends. */
export class Violation extends Error {}

/** @throws Violation with the name of what did not end in time */
export async function limited<T>(what: string, work: Promise<T>, ms = LIMIT_MS): Promise<T> {
  const timer = new AbortController();
  const late = sleep(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Violation(`${what}: no end after ${ms / 1_000} s`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

/** Tries until it succeeds. @throws Violation at once, and with the last reason when it does not in time */
export async function eventually<T>(what: string, work: () => Promise<T>, ms = LIMIT_MS): Promise<T> {
  for (const deadline = Date.now() + ms; ; await sleep(PAUSE_MS)) {
    try {
      return await limited(what, work(), ms);
    } catch (error) {
      if (error instanceof Violation) throw error;
      if (Date.now() + PAUSE_MS > deadline) throw new Violation(`${what}: not once in ${ms / 1_000} s: ${error}`, { cause: error });
    }
  }
}
