/** Who hears of a failure, and that the work was not done in time. */
export interface Report {
  what: string;
  log: { error: (facts: object, text: string) => void };
}

/** Waits for the work, but not for longer than this; its failure counts as its end. */
export async function bounded(work: Promise<unknown>, timeoutMs: number, report?: Report): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(() => {
    report?.log.error({ ms: timeoutMs }, `${report.what}: not done in time`);
    late.resolve();
  }, timeoutMs);
  const ended = work.then(
    () => {},
    (error: unknown) => void report?.log.error({ err: error }, `${report.what}: failed`),
  );
  await Promise.race([ended, late.promise]);
  clearTimeout(timer);
}

/** Rejects as soon as the signal says so, also when it has said so before; the work itself may go on. */
export function withSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    work.then(resolve, reject);
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
