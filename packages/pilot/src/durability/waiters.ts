import type { HobError } from "@hob/protocol";

/** Failures that may pass before whoever waits is told of one: each is the end of many tries, over half a minute. */
const FAILURES_WAITED = 1;

/** One who wants to hear that what was there when it asked is in the store. */
export interface Waiter {
  /** also what is not on the disk yet, and so not known to have been written */
  readonly unflushed: boolean;
  /** of the rounds that it waited for */
  failures: number;
  resolve: () => void;
  reject: (error: HobError) => void;
}

/** Those who wait for a round of uploads. What one hears of is always a round that began after it asked. */
export class Waiters {
  #next: Waiter[] = [];

  /** Settles with the next round, or with the one after it when that fails for the moment. */
  join(unflushed: boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#next.push({ unflushed, failures: 0, resolve, reject });
    return promise;
  }

  /** Whose round begins now. */
  take(): readonly Waiter[] {
    const waiting = this.#next;
    this.#next = [];
    return waiting;
  }

  succeed(waiting: readonly Waiter[]): void {
    for (const { resolve } of waiting) resolve();
  }

  fail(waiting: readonly Waiter[], error: HobError): void {
    for (const waiter of waiting) {
      if (error.retryable && waiter.failures++ < FAILURES_WAITED) this.#next.push(waiter);
      else waiter.reject(error);
    }
  }
}
