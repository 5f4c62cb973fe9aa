/**
 * Items of a source in groups of at most `size`. When the signal is aborted it ends at once with the reason, also while the
 * source is being waited for; the source is told to end, but not waited for.
 */
export async function* inBatches<T>(source: AsyncIterable<T>, size: number, signal: AbortSignal): AsyncGenerator<T[]> {
  const iterator = source[Symbol.asyncIterator]();
  // Not Promise.race with one promise for the abort: that would hold every item until the end.
  let giveUp: ((reason: unknown) => void) | undefined;
  const abort = (): void => giveUp?.(signal.reason);
  const next = (): Promise<IteratorResult<T>> =>
    new Promise((resolve, reject) => {
      giveUp = reject;
      iterator.next().then(resolve, reject);
    });
  signal.addEventListener("abort", abort, { once: true });
  let ended = false;
  try {
    while (!ended) {
      const batch: T[] = [];
      while (batch.length < size && !ended) {
        signal.throwIfAborted();
        const item = await next();
        ended = item.done === true;
        if (item.done !== true) batch.push(item.value);
      }
      if (batch.length > 0) yield batch;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}
