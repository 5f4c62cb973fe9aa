/** Work that goes through a gate. What is in the background may be moved to the front for as long as it waits. */
export class Ticket {
  isBackground: boolean;
  start: (() => void) | undefined;

  constructor(isBackground: boolean) {
    this.isBackground = isBackground;
  }
}

/**
 * At most `permits` at a time. What somebody waits for goes before what is done in the background, and the background never
 * holds more than `backgroundPermits`: whoever comes to wait finds a place at once.
 */
export class PriorityGate {
  #free: number;
  #freeBackground: number;
  readonly #front: Ticket[] = [];
  readonly #back: Ticket[] = [];

  constructor(permits: number, backgroundPermits: number) {
    this.#free = permits;
    this.#freeBackground = backgroundPermits;
  }

  async run<R>(ticket: Ticket, work: () => Promise<R>): Promise<R> {
    const started = new Promise<void>((resolve) => {
      ticket.start = resolve;
    });
    (ticket.isBackground ? this.#back : this.#front).push(ticket);
    this.#admit();
    await started;
    // What it was when it began: a promotion comes too late then.
    const wasBackground = ticket.isBackground;
    try {
      return await work();
    } finally {
      this.#free++;
      if (wasBackground) this.#freeBackground++;
      this.#admit();
    }
  }

  /** Somebody waits for it now. Without effect on what has begun. */
  promote(ticket: Ticket): void {
    const at = this.#back.indexOf(ticket);
    if (at < 0) return;
    this.#back.splice(at, 1);
    ticket.isBackground = false;
    this.#front.push(ticket);
    this.#admit();
  }

  #admit(): void {
    while (this.#free > 0) {
      const ticket = this.#front.shift() ?? (this.#freeBackground > 0 ? this.#back.shift() : undefined);
      if (ticket === undefined) return;
      this.#free--;
      if (ticket.isBackground) this.#freeBackground--;
      ticket.start?.();
    }
  }
}
