import { HobError } from "@hob/protocol";

interface Waiter {
  start(): void;
}

/** Lets a bounded number of tasks run at once; the others wait in order of arrival. */
export class AsyncLimit {
  readonly #max: number;
  readonly #waiting = new Set<Waiter>();
  #running = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /**
   * Runs the task when its turn comes.
   * @param operation words for the message, such as "create sprite x"
   * @throws HobError `timeout` when its turn has not come by the deadline (Unix milliseconds); the task then never runs
   */
  async run<T>(operation: string, deadlineMs: number, task: () => Promise<T>): Promise<T> {
    await this.#turn(operation, deadlineMs);
    try {
      return await task();
    } finally {
      this.#leave();
    }
  }

  #turn(operation: string, deadlineMs: number): Promise<void> {
    if (this.#running < this.#max) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(waiter);
        reject(
          new HobError("timeout", `${operation}: its turn did not come in time`, { hint: "try again when fewer requests are under way" }),
        );
      }, deadlineMs - Date.now());
      const waiter: Waiter = {
        start: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      this.#waiting.add(waiter);
    });
  }

  /** Hands the place to the one that waits longest, so that nobody can overtake. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next.start();
  }
}
