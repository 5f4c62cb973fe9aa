import { HobError } from "@hob/protocol";
import type { HelperProcess } from "../helper/index.ts";
import type { JournalStore } from "./journal/index.ts";
import { PastSession, Session, type SessionOptions, type SessionView } from "./session.ts";

/** How long the output and the exit status of a session can be had after its end. */
export const ENDED_KEEP_MS = 5 * 60_000;
/** So many at most; the oldest go first. */
const ENDED_MAX = 256;

/** All sessions of the sprite, those that run and those that ended a short time ago. */
export class SessionRegistry {
  readonly #store: JournalStore;
  readonly #onDiskFailure: (error: NodeJS.ErrnoException) => void;
  readonly #running = new Map<string, Session>();
  readonly #ended = new Map<string, SessionView>();
  /** ends that are not yet on disk */
  readonly #unfinished = new Set<Promise<number>>();

  /** @param onDiskFailure told of each session whose output cannot be kept on disk */
  constructor(store: JournalStore, onDiskFailure: (error: NodeJS.ErrnoException) => void = () => {}) {
    this.#store = store;
    this.#onDiskFailure = onDiskFailure;
  }

  /** Takes over what a pilot before this one left. */
  async open(): Promise<void> {
    for (const { id, about, journal } of await this.#store.open(ENDED_KEEP_MS)) {
      const session = new PastSession(id, about, journal);
      await session.finish();
      this.#keepEnded(session);
    }
  }

  /** of those that run */
  get size(): number {
    return this.#running.size;
  }

  /** those that run */
  list(): Session[] {
    return [...this.#running.values()];
  }

  /** @throws HobError `not_found` for an id that was never given, or is forgotten */
  get(id: string): SessionView {
    const session = this.#running.get(id) ?? this.#ended.get(id);
    if (session !== undefined) return session;
    // Ids are numbers; anything else is not repeated in the answer.
    throw new HobError("not_found", /^\d{1,16}$/.test(id) ? `session not found: ${id}` : "session not found", {
      hint: "'hob sessions list NAME' shows those that run",
    });
  }

  /** @throws HobError `not_found` | `gone` for one that has ended */
  running(id: string): Session {
    const session = this.#running.get(id);
    if (session !== undefined) return session;
    this.get(id);
    throw new HobError("gone", `session ${id} has already ended`);
  }

  /** Takes a process that has started. */
  add(process: HelperProcess, options: SessionOptions): Session {
    const id = this.#store.nextId();
    const journal = this.#store.create(id, options.about);
    journal.onFailure = this.#onDiskFailure;
    journal.onWritten = () => void this.#store.keepWithinBudget();
    const session = new Session(id, process, options, journal);
    this.#running.set(session.id, session);
    this.#unfinished.add(session.done);
    session.onEnd = () => {
      this.#running.delete(session.id);
      this.#keepEnded(session);
    };
    session.done.finally(() => this.#unfinished.delete(session.done));
    return session;
  }

  containerStopped(): void {
    for (const session of this.#running.values()) session.containerStopped();
  }

  /** Hangs up all sessions and waits until their ends are on disk. */
  async closeAll(): Promise<void> {
    for (const session of this.list()) session.process.close();
    await Promise.all(this.#unfinished);
  }

  #keepEnded(session: SessionView): void {
    this.#ended.set(session.id, session);
    this.#forgetLater(session);
    if (this.#ended.size <= ENDED_MAX) return;
    const oldest = [...this.#ended.values()].find(({ output }) => output.readerCount === 0);
    if (oldest !== undefined) this.#forget(oldest);
  }

  /** Not while somebody still reads it. */
  #forgetLater(session: SessionView): void {
    const timer = setTimeout(() => {
      if (session.output.readerCount > 0) this.#forgetLater(session);
      else this.#forget(session);
    }, ENDED_KEEP_MS);
    timer.unref();
  }

  #forget(session: SessionView): void {
    if (this.#ended.delete(session.id)) void this.#store.remove(session.id);
  }
}
