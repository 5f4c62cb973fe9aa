import { setTimeout as sleep } from "node:timers/promises";
import { HobError, type StorageAssignment, type StorageLag, type StorageStatus, toHobError } from "@hob/protocol";
import { type ObjectStore, type Ownership, resumeOwnership } from "@hob/storage";
import type { Logger } from "pino";
import { within } from "../within.ts";
import type { NextNumbers } from "./given-numbers.ts";
import { type Published, Publisher } from "./publisher.ts";
import type { VolumeUpload } from "./volume-upload.ts";
import { type Waiter, Waiters } from "./waiters.ts";

/** Milliseconds between looks at whether there is something to bring into the store. */
const INTERVAL_MS = 10_000;
/** After a failure; doubled each time. */
const FIRST_BACKOFF_MS = 1_000;
const LAST_BACKOFF_MS = 60_000;
/** What the protocol has room for: a checkpoint may be of a time when the clock was wrong. */
const LAG_MAX_MS = 1e12;

export interface DurabilityParts {
  store: ObjectStore;
  upload: Pick<VolumeUpload, "checkpoints" | "checkpoint" | "live" | "asLive" | "bases" | "isFor" | "writtenMark">;
  log: Pick<Logger, "info" | "warn" | "error">;
  /** of checkpoints, as the sprite's ledger has them; left out, a head knows of those that it has named */
  numbers?: () => NextNumbers;
  now?: () => number;
  intervalMs?: number;
}

/**
 * Brings what the sprite holds into the object store: each checkpoint once, in the order in which they were taken, and the
 * live volume whenever it was written to, every ten seconds at most. One upload at a time; what comes meanwhile is part of
 * the next. What fails is tried again with growing pauses, for as long as the pilot runs and owns the sprite.
 */
export class Durability implements AsyncDisposable {
  readonly #parts: DurabilityParts;
  readonly #now: () => number;
  readonly #stop = new AbortController();
  readonly #publisher: Publisher;
  #assignment: StorageAssignment | undefined;
  #ownership: Promise<Ownership> | undefined;
  /** the last that could be had: what it says of checkpoints stays true while its successor is being asked for */
  #head: Ownership | undefined;
  #loop: Promise<void> | undefined;
  #wake = Promise.withResolvers<void>();
  /** settles when whoever writes the head has ended */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #waiters = new Waiters();
  #isUploading = false;
  #durableAt: number | undefined;
  #writtenWhenDurable: string | undefined;
  #dirtySince: number | undefined;
  #lastError: HobError | undefined;
  #lost: HobError | undefined;

  constructor(parts: DurabilityParts) {
    this.#parts = parts;
    this.#now = parts.now ?? Date.now;
    const { upload, log, numbers } = parts;
    this.#publisher = new Publisher({ upload, log, numbers, now: this.#now, signal: this.#stop.signal });
  }

  /** Begins, or goes on under another epoch. Without an assignment there is no store, and nothing is done. */
  assign(assignment: StorageAssignment | undefined): void {
    const isSame = JSON.stringify(assignment) === JSON.stringify(this.#assignment);
    this.#assignment = assignment;
    if (!isSame) this.#ownership = this.#head = undefined;
    if (assignment === undefined || this.#stop.signal.aborted) return;
    this.#lost = undefined;
    this.#loop ??= this.#run();
    this.#wake.resolve();
  }

  /** Looks at once: a checkpoint was taken or deleted. */
  nudge(): void {
    this.#wake.resolve();
  }

  /**
   * Resolves when everything that was written before is in the store, and all checkpoints are.
   * @throws HobError `conflict` without a store, `ownership_lost`, `store_unavailable` when it fails repeatedly; it is tried again all the same
   */
  sync(): Promise<void> {
    if (this.#assignment === undefined) return Promise.reject(new HobError("conflict", "sync: this sprite has no object store"));
    return this.#ask(true);
  }

  #ask(unflushed: boolean): Promise<void> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const settled = this.#waiters.join(unflushed);
    this.#wake.resolve();
    return settled;
  }

  /** Whether the store lacks something of what is on the disk. */
  async isBehind(): Promise<boolean> {
    if (this.#assignment === undefined) return false;
    return (await this.lag()) !== null || this.#isUploading;
  }

  /** What the store lacks of what is on the disk; null: nothing, or there is no store. */
  async lag(): Promise<StorageLag | null> {
    if (this.#assignment === undefined) return null;
    await this.#noteWrites();
    const checkpoints = this.#publisher.pending(this.#head?.head).length;
    if (this.#dirtySince === undefined && checkpoints === 0) return null;
    return { lagMs: this.#lagMs(), checkpoints, error: this.#error };
  }

  /**
   * Brings what the store lacks of what is on the disk into it, and waits for that no longer than this. It goes on afterwards.
   * @returns what it lacks then; null: nothing, or there is no store
   */
  async settle(waitMs: number): Promise<StorageLag | null> {
    if (!(await this.isBehind())) return null;
    await within(waitMs, this.#ask(false));
    return this.lag();
  }

  /**
   * Runs what writes the sprite's head itself, while nothing is uploaded.
   * @throws HobError `conflict` without a store and before the volume is the sprite's, `ownership_lost`, and what the work throws
   */
  exclusively<T>(work: (ownership: Ownership) => Promise<T>): Promise<T> {
    const assignment = this.#assignment;
    if (assignment === undefined) return Promise.reject(new HobError("conflict", "this sprite has no object store"));
    return this.#inTurn(async () => {
      if (this.#lost !== undefined) throw this.#lost;
      if (!this.#parts.upload.isFor(assignment)) throw new HobError("conflict", "the sprite's volume is not there yet");
      return await work(await this.#own(assignment));
    });
  }

  /** The checkpoints that the store is known to have; undefined without a store, and before it has been asked. */
  durableIds(): ReadonlySet<string> | undefined {
    return this.#assignment === undefined || this.#head === undefined
      ? undefined
      : new Set(this.#head.head.checkpoints.map(({ id }) => id));
  }

  /** The `writeId` of the head in the store that has all that is here; undefined when there may be more here, or other things. */
  async storedAs(): Promise<string | undefined> {
    const { upload } = this.#parts;
    const head = this.#head?.head;
    if (head === undefined || this.#isUploading || this.#lost !== undefined) return undefined;
    const stored = new Set(head.checkpoints.map(({ id }) => id));
    if (upload.checkpoints.length !== stored.size || !upload.checkpoints.every(({ id }) => stored.has(id))) return undefined;
    const written = await upload.writtenMark().catch(() => undefined);
    return written !== undefined && written === this.#writtenWhenDurable ? head.writeId : undefined;
  }

  async status(): Promise<Omit<StorageStatus, "fetched_bytes" | "fetched_requests">> {
    await this.#noteWrites();
    return {
      enabled: this.#assignment !== undefined,
      durable_at: this.#durableAt === undefined ? null : new Date(this.#durableAt).toISOString(),
      durable_lag_seconds: Math.round(this.#lagMs() / 100) / 10,
      uploading: this.#isUploading,
      pending_checkpoints: this.#publisher.pending(this.#head?.head).map(({ id }) => id),
      error: this.#error,
    };
  }

  get #error(): string | null {
    return this.#lost?.message ?? this.#lastError?.message ?? null;
  }

  /** A checkpoint that the store is known to lack has waited since it was taken, whatever was written after it. */
  #lagMs(): number {
    const pending = this.#head === undefined ? [] : this.#publisher.pending(this.#head.head);
    const taken = pending.map(({ createTime }) => Date.parse(createTime));
    const since = Math.min(this.#dirtySince ?? Number.POSITIVE_INFINITY, ...taken);
    return Math.min(Math.max(0, this.#now() - since), LAG_MAX_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake.resolve();
    await this.#loop;
  }

  async #run(): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS;
    while (!this.#stop.signal.aborted) {
      const waiting = this.#waiters.take();
      this.#wake = Promise.withResolvers();
      let pauseMs = this.#parts.intervalMs ?? INTERVAL_MS;
      try {
        await this.#inTurn(() => this.#round(waiting));
        this.#waiters.succeed(waiting);
        this.#lastError = undefined;
        backoffMs = FIRST_BACKOFF_MS;
      } catch (thrown) {
        this.#fail(thrown, waiting);
        if (this.#lost !== undefined) await this.#woken(2 ** 31 - 1);
        pauseMs = backoffMs;
        backoffMs = Math.min(backoffMs * 2, LAST_BACKOFF_MS);
      }
      await this.#woken(pauseMs);
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  #fail(thrown: unknown, waiting: readonly Waiter[]): void {
    const error = toHobError(thrown);
    this.#waiters.fail(waiting, error);
    this.#ownership = undefined;
    this.#lastError = error;
    if (error.code === "ownership_lost") this.#lost = error;
    if (!this.#stop.signal.aborted) this.#parts.log.warn({ err: thrown }, "bringing the volume into the store failed");
  }

  async #woken(ms: number): Promise<void> {
    const timer = new AbortController();
    await Promise.race([this.#wake.promise, sleep(ms, undefined, { signal: timer.signal, ref: false }).catch(() => {})]);
    timer.abort();
  }

  async #round(waiting: readonly Waiter[]): Promise<void> {
    const assignment = this.#assignment;
    // A volume that is still to be fetched from the store is not the sprite's.
    if (assignment === undefined || !this.#parts.upload.isFor(assignment)) {
      if (waiting.length > 0) throw new HobError("conflict", "sync: the sprite's volume is not there yet");
      return;
    }
    const publisher = this.#publisher;
    this.#isUploading = true;
    try {
      const ownership = await this.#own(assignment);
      this.#head = ownership;
      await publisher.removeDeleted(ownership);
      for (const checkpoint of publisher.pending(ownership.head))
        await this.#noteDurable(await publisher.addCheckpoint(ownership, checkpoint));
      await this.#noteWrites();
      const unflushed = waiting.some((waiter) => waiter.unflushed);
      if (unflushed || this.#dirtySince !== undefined || ownership.head.root === null)
        await this.#noteDurable(await publisher.publishLive(ownership));
      else await publisher.publishNumbers(ownership);
    } finally {
      this.#isUploading = false;
    }
  }

  #own({ organization, spriteId, owner, epoch }: StorageAssignment): Promise<Ownership> {
    const { store, upload } = this.#parts;
    this.#ownership ??= resumeOwnership({ store, org: organization, sprite: spriteId, owner, epoch, bases: () => upload.bases() });
    return this.#ownership;
  }

  /** What was written while that was brought there may have been at its beginning. */
  async #noteDurable(published: Published | undefined): Promise<void> {
    if (published === undefined) return;
    const { atMs, live } = published;
    this.#durableAt = atMs;
    this.#writtenWhenDurable = live.written;
    this.#dirtySince = undefined;
    await this.#noteWrites(atMs);
  }

  /** Keeps the time since when the volume holds what the store has not. */
  async #noteWrites(sinceMs?: number): Promise<void> {
    const written = await this.#parts.upload.writtenMark().catch(() => undefined);
    if (written === undefined || written === this.#writtenWhenDurable) return;
    this.#dirtySince ??= sinceMs ?? this.#now();
  }
}
