import { within } from "../within.ts";

/** Work that is done one after the other, and that can be made to wait. */
export class Turns {
  #queue: Promise<unknown> = Promise.resolve();
  #held: PromiseWithResolvers<void> | undefined;

  /** Does the work when all that was asked for before is done. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => {});
    return next;
  }

  /** Resolves when nothing is under way or waits. */
  async idle(): Promise<void> {
    for (let last: unknown; last !== this.#queue; ) {
      last = this.#queue;
      await last;
    }
  }

  /** Lets what is under way end, and nothing begin until `goOn`. @returns false when it did not end in time: then all goes on */
  async standStill(waitMs: number): Promise<boolean> {
    this.goOn();
    const [reached, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#held = held;
    void this.take(async () => {
      reached.resolve();
      await held.promise;
    });
    const isStill = await within(waitMs, reached.promise);
    if (!isStill) held.resolve();
    return isStill;
  }

  goOn(): void {
    this.#held?.resolve();
  }

  /** Resolves when what is under way has ended, and all that waited. */
  settled(): Promise<unknown> {
    this.goOn();
    return this.#queue;
  }
}
