/**
 * Items of a source in groups of at most `size`. When the signal is aborted it ends at once with the reason, also while the
 * source is being waited for; the source is told to end, but not waited for.
 */
export async function* inBatches<T>(source: AsyncIterable<T>, size: number, signal: AbortSignal): AsyncGenerator<T[]> {
  const iterator = source[Symbol.asyncIterator]();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => undefined);
  const abort = (): void => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  let ended = false;
  try {
    while (!ended) {
      const batch: T[] = [];
      while (batch.length < size && !ended) {
        const next = await Promise.race([iterator.next(), aborted]);
        ended = next.done === true;
        if (next.done !== true) batch.push(next.value);
      }
      if (batch.length > 0) yield batch;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}
