import { HobError } from "@hob/protocol";

const WINDOW_MS = 60_000;

/** How many creates were begun with one token in the last minute. A create that finds no room is taken back. */
export class CreateRate {
  /** creates a minute and token; 0: no limit */
  readonly limit: number;
  readonly #now: () => number;
  /** times of creates by token, oldest first */
  readonly #times = new Map<string, number[]>();

  constructor(limit: number, now: () => number) {
    this.limit = limit;
    this.#now = now;
  }

  /**
   * Counts one create.
   * @throws HobError `sprite_creation_rate_limited` with `limit`, `window_seconds`, `current_count`, `retry_after_seconds`
   */
  take(tokenId: string): { undo(): void } {
    if (this.limit === 0) return { undo: () => {} };
    const at = this.#now();
    const times = this.#recent(tokenId, at);
    if (times.length >= this.limit) throw this.#exceeded(times, at);
    times.push(at);
    return {
      undo: () => {
        const index = times.indexOf(at);
        if (index >= 0) times.splice(index, 1);
      },
    };
  }

  #recent(tokenId: string, at: number): number[] {
    for (const [id, times] of this.#times) {
      const kept = times.findIndex((time) => time > at - WINDOW_MS);
      if (kept < 0) this.#times.delete(id);
      else times.splice(0, kept);
    }
    const times = this.#times.get(tokenId) ?? [];
    this.#times.set(tokenId, times);
    return times;
  }

  #exceeded(times: readonly number[], at: number): HobError {
    const waitMs = (times[0] ?? at) + WINDOW_MS - at;
    return new HobError("sprite_creation_rate_limited", `create sprite: at most ${this.limit} a minute with one token`, {
      hint: "wait, or start the daemon with a higher --create-rate",
      details: {
        limit: this.limit,
        window_seconds: WINDOW_MS / 1_000,
        current_count: times.length,
        retry_after_seconds: Math.max(1, Math.ceil(waitMs / 1_000)),
        upgrade_available: false,
      },
    });
  }
}
