import { setTimeout as delay } from "node:timers/promises";
import { HobError } from "@hob/protocol";

export interface RetryOptions {
  /** tries in all */
  attempts: number;
  /** bound of the first pause; it doubles each time */
  firstPauseMs: number;
  longestPauseMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * Runs `work` again when it fails with a retryable HobError. The pause is random between nothing and its bound ("full
 * jitter"), so that many clients of a store that was down do not come back at once.
 */
export async function retrying<R>(options: RetryOptions, work: (attempt: number) => Promise<R>): Promise<R> {
  for (let attempt = 1; ; attempt++) {
    try {
      options.signal?.throwIfAborted();
      return await work(attempt);
    } catch (error) {
      if (attempt >= options.attempts || !(error instanceof HobError) || !error.retryable) throw error;
      const bound = Math.min(options.longestPauseMs, options.firstPauseMs * 2 ** (attempt - 1));
      await pause(Math.random() * bound, options.signal);
    }
  }
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}
