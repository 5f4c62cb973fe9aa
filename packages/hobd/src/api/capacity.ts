import { HobError } from "@hob/protocol";

/** Share of the host's memory that sprites may take; the rest is for the host, its page cache and the daemon. */
const MEMORY_SHARE = 0.8;

/** Seconds after which a refused client may try again: idle sprites go to sleep in about this time. */
const RETRY_AFTER_SECONDS = 30;

/** Milliseconds between looks at the present count while someone waits; a change of status looks at once. */
const POLL_INTERVAL_MS = 1_000;

/**
 * How many sprites may run at once on a host of this much memory, when no other limit is configured: the memory share
 * divided by one sprite's memory, at least 1.
 */
export function defaultMaxRunning(hostMemoryBytes: number, spriteMemoryMb: number): number {
  return Math.max(1, Math.floor((hostMemoryBytes * MEMORY_SHARE) / (spriteMemoryMb * 1024 * 1024)));
}

/** Times that a request has another sprite put to sleep for it: somebody else may take the place each time. */
const ROOM_ATTEMPTS = 3;

/** A place among the running sprites, held from before the VM starts until it counts as running by itself, or failed. */
export interface Reservation extends Disposable {}

/**
 * Keeps the number of running sprites at or below the limit. What runs = what the runtime reports + what has a
 * reservation; an id in both counts once.
 */
export class CapacityGate {
  readonly limit: number;
  readonly #runningIds: () => Promise<readonly string[]>;
  readonly #reserved = new Map<string, number>();
  readonly #waiting = new Set<() => void>();
  /** Puts an idle sprite to sleep; false when there is none. Set when the part that can do it is there. */
  makeRoom: () => Promise<boolean> = () => Promise.resolve(false);

  constructor(limit: number, runningIds: () => Promise<readonly string[]>) {
    this.limit = limit;
    this.#runningIds = runningIds;
  }

  /**
   * Takes a place for this sprite, at once or as soon as an idle one has gone to sleep for it.
   * @throws HobError `concurrent_sprite_limit_exceeded` with `limit`, `current_count`, `retry_after_seconds`
   */
  async reserve(id: string): Promise<Reservation> {
    for (let attempt = 0; ; attempt++) {
      // No await between the count and the reservation: two requests cannot both take the last place.
      const present = this.#present(await this.#runningIds());
      if (present.has(id) || present.size < this.limit) return this.#take(id);
      if (attempt >= ROOM_ATTEMPTS || !(await this.makeRoom())) throw limitExceeded(this.limit, present.size);
    }
  }

  /** Takes a place for this sprite if there is one that nobody has; no other sprite has to sleep for it. */
  async reserveIfFree(id: string): Promise<Reservation | undefined> {
    const present = this.#present(await this.#runningIds());
    return present.has(id) || present.size < this.limit ? this.#take(id) : undefined;
  }

  /**
   * Takes a place, waiting for one until the deadline (Unix milliseconds) or until `signal` says that nobody needs it.
   * @throws HobError `concurrent_sprite_limit_exceeded`
   */
  async reserveWhenFree(id: string, deadlineMs: number, signal?: AbortSignal): Promise<Reservation> {
    for (;;) {
      try {
        return await this.reserve(id);
      } catch (error) {
        const leftMs = deadlineMs - Date.now();
        if (!(error instanceof HobError) || error.code !== "concurrent_sprite_limit_exceeded" || leftMs <= 0 || signal?.aborted)
          throw error;
        await this.#change(Math.min(leftMs, POLL_INTERVAL_MS), signal);
      }
    }
  }

  /** To be called when a sprite stopped running or was destroyed: who waits looks again. */
  notify(): void {
    for (const wake of this.#waiting) wake();
  }

  #present(running: readonly string[]): Set<string> {
    return new Set([...running, ...this.#reserved.keys()]);
  }

  #take(id: string): Reservation {
    this.#reserved.set(id, (this.#reserved.get(id) ?? 0) + 1);
    return { [Symbol.dispose]: () => this.#release(id) };
  }

  #release(id: string): void {
    const count = (this.#reserved.get(id) ?? 1) - 1;
    if (count > 0) this.#reserved.set(id, count);
    else this.#reserved.delete(id);
    this.notify();
  }

  #change(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", wake);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      signal?.addEventListener("abort", wake);
      this.#waiting.add(wake);
    });
  }
}

function limitExceeded(limit: number, current: number): HobError {
  return new HobError("concurrent_sprite_limit_exceeded", `start sprite: ${current} of at most ${limit} sprites run already`, {
    hint: "destroy a sprite, wait until one sleeps, or create with wait_for_capacity",
    details: { limit, current_count: current, retry_after_seconds: RETRY_AFTER_SECONDS },
  });
}
