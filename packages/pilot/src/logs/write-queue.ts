/**
 * Runs file operations one after the other, in order. All logs share one: while the volume is frozen for a checkpoint,
 * writing waits in the kernel, and must then hold one thread of Node's pool, not all of them.
 */
export class WriteQueue {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work);
    this.#last = next.catch(() => {});
    return next;
  }
}
