import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 50;

/** Waits until the condition holds; an error in it counts as "not yet". @throws naming what was waited for */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(`not in ${timeoutMs} ms: ${what}`, { cause: last });
    await sleep(POLL_MS);
  }
}
