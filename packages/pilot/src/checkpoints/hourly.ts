import type { Checkpoints } from "./checkpoints.ts";

const HOUR_MS = 3_600_000;

/**
 * An automatic checkpoint each hour in which something was written. A VM that sleeps has no hours: its timers stand
 * still with it.
 * @returns ends it
 */
export function startHourly(checkpoints: Pick<Checkpoints, "automatic">, onError: (error: unknown) => void, everyMs = HOUR_MS): () => void {
  const timer = setInterval(() => void checkpoints.automatic("hourly").catch(onError), everyMs);
  timer.unref();
  return () => clearInterval(timer);
}
