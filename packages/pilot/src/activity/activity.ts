/** Something that keeps the sprite from falling asleep. Times are Unix time in milliseconds. */
export interface Holder {
  /** what sort of thing holds: `task`, `session`, `request`, … */
  readonly kind: string;
  /** which one, for people to read */
  readonly name: string;
  readonly since: number;
  /** when it ends by itself; absent = not before it is released */
  readonly until?: number;
}

export interface ActivityClock {
  /** Unix time, milliseconds; it is stepped when a VM wakes */
  wall(): number;
  /** milliseconds since any point; it never goes back, and stands still while the VM sleeps */
  monotonic(): number;
}

const SYSTEM_CLOCK: ActivityClock = { wall: () => Date.now(), monotonic: () => performance.now() };

/**
 * What keeps the sprite awake: holders as long as they hold, and single moments by `touch`. Whoever serves a client
 * takes a hold; who decides about sleep asks `holders` and `idleMs`.
 */
export class Activity {
  readonly #clock: ActivityClock;
  readonly #holders = new Set<Holder>();
  #lastActive: number;

  constructor(clock: ActivityClock = SYSTEM_CLOCK) {
    this.#clock = clock;
    this.#lastActive = clock.monotonic();
  }

  /** Holds until it is disposed of, or until `untilMs` (Unix time). Disposing twice is harmless. */
  hold(kind: string, name: string, untilMs?: number): Disposable {
    const holder: Holder = { kind, name, since: this.#clock.wall(), ...(untilMs === undefined ? {} : { until: untilMs }) };
    this.#holders.add(holder);
    return {
      [Symbol.dispose]: () => {
        if (this.#expire(holder)) return;
        if (this.#holders.delete(holder)) this.touch();
      },
    };
  }

  /** Something happened just now. */
  touch(): void {
    this.#lastActive = this.#clock.monotonic();
  }

  /** Those that hold now, oldest first. */
  holders(): Holder[] {
    return [...this.#holders].filter((holder) => !this.#expire(holder));
  }

  /** Milliseconds since the last activity; 0 while anything holds. */
  idleMs(): number {
    return this.holders().length > 0 ? 0 : Math.max(0, this.#clock.monotonic() - this.#lastActive);
  }

  /** Forgets a holder whose time has run out: the sprite was active until then. @returns whether it had */
  #expire(holder: Holder): boolean {
    const overdueMs = holder.until === undefined ? -1 : this.#clock.wall() - holder.until;
    if (overdueMs < 0) return false;
    if (this.#holders.delete(holder)) this.#lastActive = Math.max(this.#lastActive, this.#clock.monotonic() - overdueMs);
    return true;
  }
}
