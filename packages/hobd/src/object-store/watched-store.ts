import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import {
  type CallOptions,
  type GetOptions,
  type ListOptions,
  type ListPage,
  type ObjectInfo,
  type ObjectStore,
  type PutOptions,
  type PutResult,
  requireConditionalWrites,
  type StoreCapabilities,
  type StoredObject,
} from "@hob/storage";
import type { Logger } from "pino";
import { withSignal } from "../runtime/bounded.ts";

/** What `GET /healthz` says: the store answers; it does not; it refuses what Hob needs of it. */
export type StoreHealth = "ok" | "unavailable" | "refused";

export interface WatchTimes {
  /** milliseconds that a start waits for a store that was used before */
  startMs: number;
  /** milliseconds for one question */
  answerMs: number;
  /** milliseconds between questions to a store that does not answer: at first, doubled each time, and at last */
  againMs: { first: number; last: number };
}

const TIMES: WatchTimes = { startMs: 10_000, answerMs: 60_000, againMs: { first: 1_000, last: 30_000 } };

/** Errors that say something of the store, and not of one object. */
const ABOUT_THE_STORE: ReadonlySet<string> = new Set(["store_unavailable", "store_failed", "store_unsupported"]);

/**
 * The object store as the daemon uses it. Before it was found to have conditional writes nothing is read or written there, because
 * two hosts could own one sprite: every call is refused at once. While it does not answer it is asked again and again, so that what it is
 * known to be is never old.
 */
export class WatchedStore implements ObjectStore, Disposable {
  readonly description: string;
  /** resolves when the store was found to be fit for sprites; pending for as long as it does not answer */
  readonly fit: Promise<void>;
  readonly #inner: ObjectStore;
  readonly #log: Logger;
  readonly #times: WatchTimes;
  readonly #stop = new AbortController();
  readonly #becomesFit = Promise.withResolvers<void>();
  #isFit = false;
  #problem: HobError | undefined;
  /** by performance.now() */
  #askedAgainAt = 0;
  #isAsking = false;

  constructor(inner: ObjectStore, log: Logger, times: Partial<WatchTimes> = {}) {
    this.#inner = inner;
    this.#log = log;
    this.#times = { ...TIMES, ...times };
    this.description = inner.description;
    this.fit = this.#becomesFit.promise;
  }

  /**
   * Finds out whether the store is fit for sprites.
   *
   * @param wasUsed by this home: then one that does not answer is waited for in the background
   * @throws HobError `store_unavailable` unless it was used; `store_unsupported`, `store_failed`, `no_space`
   */
  async start(wasUsed: boolean): Promise<void> {
    try {
      await this.#ask(wasUsed ? this.#times.startMs : this.#times.answerMs);
    } catch (error) {
      if (!(wasUsed && error instanceof HobError && error.code === "store_unavailable")) throw error;
      this.#noteProblem(error);
    }
  }

  /** What is wrong with the store; undefined: nothing, as far as is known. */
  get problem(): HobError | undefined {
    return this.#problem;
  }

  get health(): StoreHealth {
    if (this.#problem === undefined) return "ok";
    return this.#problem.code === "store_unavailable" ? "unavailable" : "refused";
  }

  get(key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    return this.#use((store) => store.get(key, options));
  }

  head(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    return this.#use((store) => store.head(key, options));
  }

  put(key: string, data: Uint8Array, options?: PutOptions): Promise<PutResult> {
    return this.#use((store) => store.put(key, data, options));
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#use((store) => store.delete(key, options));
  }

  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.#use((store) => store.list(prefix, options));
  }

  /** What was found; there are no more trials. */
  async probe(): Promise<StoreCapabilities> {
    if (!this.#isFit) throw this.#refusal();
    return { conditionalWrites: true };
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  async #use<R>(call: (store: ObjectStore) => Promise<R>): Promise<R> {
    if (!this.#isFit) throw this.#refusal();
    try {
      const result = await call(this.#inner);
      this.#noteAnswer();
      return result;
    } catch (error) {
      if (error instanceof HobError && ABOUT_THE_STORE.has(error.code)) this.#noteProblem(error);
      throw error;
    }
  }

  #refusal(): HobError {
    const { code, message, hint } = this.#problem ?? new HobError("store_unavailable", `${this.description} was not asked yet`);
    if (code !== "store_unavailable") return new HobError(code, message, hint === undefined ? {} : { hint });
    const seconds = Math.ceil((this.#askedAgainAt - performance.now()) / 1_000);
    return new HobError("store_unavailable", `${this.description} has not answered since the daemon was started: ${message}`, {
      hint: `it is asked again and again; until then sprites that run go on, and one that sleeps stays as it is, on this machine${hint === undefined ? "" : `. If it does not come back: ${hint}`}`,
      details: { retry_after_seconds: Math.max(1, seconds) },
    });
  }

  /** One question, bounded. @throws HobError */
  async #ask(ms: number): Promise<void> {
    const timeout = AbortSignal.timeout(ms);
    const signal = AbortSignal.any([timeout, this.#stop.signal]);
    try {
      // The list is what the permissions and the bucket are seen by.
      const question: Promise<unknown> = this.#isFit
        ? this.#inner.list("probe/", { limit: 1, signal })
        : requireConditionalWrites(this.#inner, { signal });
      await withSignal(question, signal);
    } catch (error) {
      if (!timeout.aborted || error instanceof HobError) throw error;
      throw new HobError("store_unavailable", `${this.description} did not answer within ${ms / 1_000} s`);
    }
    this.#noteAnswer();
    if (this.#isFit) return;
    this.#isFit = true;
    this.#becomesFit.resolve();
  }

  #noteAnswer(): void {
    if (this.#problem === undefined) return;
    this.#problem = undefined;
    this.#log.info({ store: this.description }, "the object store answers again");
  }

  #noteProblem(error: HobError): void {
    if (this.#problem?.code !== error.code) this.#log.warn({ store: this.description, err: error }, "the object store cannot be used");
    this.#problem = error;
    if (this.#isAsking) return;
    this.#isAsking = true;
    void this.#askAgain();
  }

  /** Until the store answers well, or this is disposed of. */
  async #askAgain(): Promise<void> {
    const { againMs, answerMs } = this.#times;
    for (let pauseMs = againMs.first; this.#problem !== undefined; pauseMs = Math.min(pauseMs * 2, againMs.last)) {
      this.#askedAgainAt = performance.now() + pauseMs;
      await sleep(pauseMs, undefined, { signal: this.#stop.signal, ref: false }).catch(() => {});
      if (this.#stop.signal.aborted) return;
      await this.#ask(answerMs).catch((error: unknown) => {
        if (error instanceof HobError) this.#noteProblem(error);
        else if (!this.#stop.signal.aborted) this.#log.error({ err: error }, "the object store could not be asked");
      });
    }
    this.#isAsking = false;
  }
}
