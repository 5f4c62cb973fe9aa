import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";

/** A stop goes on after a part that does not end in time, or fails. */
export async function bounded(what: string, work: Promise<unknown>, ms: number, log: Logger): Promise<void> {
  const ended = work.then(
    () => true,
    (error) => {
      log.error({ err: error }, `${what}: failed`);
      return true;
    },
  );
  const timer = new AbortController();
  const inTime = await Promise.race([ended, sleep(ms, false, { signal: timer.signal })]);
  timer.abort();
  if (!inTime) log.error({ ms }, `${what}: not done in time`);
}
