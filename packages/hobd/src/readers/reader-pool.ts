import { HobError } from "@hob/protocol";
import type { Logger } from "pino";
import type { PilotEndpoint, Reader } from "../runtime/sprite-runtime.ts";

/** States of the store that one VM has devices for, `pilot/src/block-server/origins.ts`. Who wants more gets a new reader. */
export const STATES_MAX = 16;

export interface ReaderPoolParts {
  /** readers at a time */
  max: number;
  /** for how long a reader is kept that nobody uses */
  idleMs: number;
  /** a place among the running VMs */
  reserve: (name: string) => Promise<Disposable>;
  log: Pick<Logger, "warn" | "info">;
}

/** What is wanted of a reader. */
export interface ReaderWish {
  spriteId: string;
  /** the newest state, as the store has it: a reader shows one */
  root: string;
  /** checkpoints that are looked at, and perhaps `CURRENT` */
  states: ReadonlySet<string>;
  /** makes the reader when there is none */
  start: () => Promise<Reader>;
}

/** The use of a reader until it is disposed of. */
export interface ReaderLease extends Disposable {
  readonly endpoint: PilotEndpoint;
  /** It did not answer as it should: nobody else gets it. */
  discard(): void;
}

/** One reader, from before its start until nothing of it is left. */
interface Entry {
  readonly spriteId: string;
  readonly root: string;
  readonly states: Set<string>;
  readonly reader: Promise<Reader>;
  place: Disposable | undefined;
  users: number;
  /** nobody else gets it; it is closed when its last user has gone */
  isRetired: boolean;
  idle: { readonly since: number; readonly timer: NodeJS.Timeout } | undefined;
  closed: Promise<void> | undefined;
}

/**
 * Readers by sprite: started when one is wanted, lent to as many as want it, kept for a while after the last, closed. A reader belongs
 * to one sleep of its sprite: when that wakes, those who use it may end, and nobody else gets it.
 */
export class ReaderPool implements AsyncDisposable {
  readonly #parts: ReaderPoolParts;
  readonly #entries = new Set<Entry>();
  #count = 0;
  #isStopping = false;

  constructor(parts: ReaderPoolParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * A reader for this wish, started if need be; undefined when all there may be are in use.
   * @throws what the start throws, and HobError `shutting_down`
   */
  async lend(wish: ReaderWish): Promise<ReaderLease | undefined> {
    const entry = await this.#entryFor(wish);
    if (entry === undefined) return undefined;
    try {
      const { endpoint } = await entry.reader;
      return this.#lease(entry, endpoint);
    } catch (error) {
      entry.isRetired = true;
      this.#giveBack(entry);
      throw error;
    }
  }

  /** The sprite is awake: nobody else gets its readers, and they go when their users have. */
  retire(spriteId: string): void {
    for (const entry of this.#of(spriteId)) this.#retire(entry);
  }

  /** The sprite is gone: so are its readers, whoever uses them. */
  async drop(spriteId: string): Promise<void> {
    await Promise.all(this.#of(spriteId).map((entry) => this.#close(entry)));
  }

  /** Closes the reader that nobody has used for longest. @returns false when all are in use */
  async closeIdle(): Promise<boolean> {
    const [longest] = [...this.#entries]
      .filter(({ idle }) => idle !== undefined)
      .sort((a, b) => (a.idle?.since ?? 0) - (b.idle?.since ?? 0));
    if (longest === undefined) return false;
    await this.#close(longest);
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    await Promise.all([...this.#entries].map((entry) => this.#close(entry)));
  }

  /** In use from now on, so that it cannot be closed as an idle one. */
  async #entryFor(wish: ReaderWish): Promise<Entry | undefined> {
    for (;;) {
      if (this.#isStopping) throw new HobError("shutting_down", "read history: the daemon is stopping");
      const found = this.#of(wish.spriteId).find((entry) => isGoodFor(entry, wish));
      if (found !== undefined) return this.#use(found, wish);
      this.retire(wish.spriteId);
      if (this.#entries.size < this.#parts.max) return this.#use(this.#open(wish), wish);
      const closing = [...this.#entries].find(({ closed }) => closed !== undefined);
      // No await between a look at what there is and the start: two requests cannot both take the last place.
      if (closing !== undefined) await closing.closed;
      else if (!(await this.closeIdle())) return undefined;
    }
  }

  #open({ spriteId, root, start }: ReaderWish): Entry {
    const { reserve, log } = this.#parts;
    const name = `reader-${++this.#count}-of-${spriteId}`;
    const work = async () => {
      entry.place = await reserve(name);
      return start();
    };
    const entry: Entry = {
      ...{ spriteId, root, states: new Set<string>(), users: 0, isRetired: false },
      reader: Promise.resolve().then(work),
      ...{ place: undefined, idle: undefined, closed: undefined },
    };
    this.#entries.add(entry);
    entry.reader.then(
      ({ exited }) =>
        exited.then(() => {
          if (entry.closed === undefined) log.warn({ sprite: spriteId }, "a reader ended by itself");
          return this.#close(entry);
        }),
      () => {},
    );
    return entry;
  }

  #use(entry: Entry, { states }: ReaderWish): Entry {
    for (const state of states) entry.states.add(state);
    entry.users++;
    clearTimeout(entry.idle?.timer);
    entry.idle = undefined;
    return entry;
  }

  #lease(entry: Entry, endpoint: PilotEndpoint): ReaderLease {
    let isOver = false;
    return {
      endpoint,
      discard: () => {
        entry.isRetired = true;
      },
      [Symbol.dispose]: () => {
        if (!isOver) this.#giveBack(entry);
        isOver = true;
      },
    };
  }

  #giveBack(entry: Entry): void {
    entry.users--;
    if (entry.users > 0 || entry.closed !== undefined) return;
    if (entry.isRetired) return void this.#close(entry);
    const timer = setTimeout(() => void this.#close(entry), this.#parts.idleMs).unref();
    entry.idle = { since: performance.now(), timer };
  }

  #retire(entry: Entry): void {
    entry.isRetired = true;
    if (entry.users === 0) void this.#close(entry);
  }

  /** Never rejects. What a fault leaves of it the next start of the daemon removes. */
  #close(entry: Entry): Promise<void> {
    entry.isRetired = true;
    clearTimeout(entry.idle?.timer);
    entry.idle = undefined;
    entry.closed ??= (async () => {
      const reader = await entry.reader.catch(() => undefined);
      await reader
        ?.close()
        .catch((err: unknown) => this.#parts.log.warn({ sprite: entry.spriteId, err }, "a reader was not removed whole"));
      entry.place?.[Symbol.dispose]();
      this.#entries.delete(entry);
    })();
    return entry.closed;
  }

  #of(spriteId: string): Entry[] {
    return [...this.#entries].filter((entry) => entry.spriteId === spriteId);
  }
}

const isGoodFor = (entry: Entry, { root, states }: ReaderWish): boolean =>
  !entry.isRetired && entry.root === root && new Set([...entry.states, ...states]).size <= STATES_MAX;
