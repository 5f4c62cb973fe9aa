import type { Journal } from "./journal/index.ts";
import { OutputReader, type SessionClient } from "./output-reader.ts";

export interface StallLimits {
  /** a client that takes nothing for so long is cut off, where the command would go on without it */
  readonly stallMs: number;
  /** how often readers are looked at while one of them holds up the command */
  readonly checkMs: number;
}

const STALL_LIMITS: StallLimits = { stallMs: 60_000, checkMs: 5_000 };
/** Time constant of the average rate, and how often it is brought up to date. */
const RATE_MS = 10_000;
const RATE_STEP_MS = 200;

/**
 * What a session has written, and those who read it. The journal is the buffer between the command and its clients: a
 * client that falls behind reads from it. One that falls behind by all that a journal keeps holds up the command, as the
 * reader of a pipe does.
 */
export class SessionOutput {
  readonly journal: Journal;
  /** called when the answer of `isFull` may have changed */
  onFlow: () => void = () => {};
  /** whether a client that takes nothing may be cut off: the command has other clients, or needs none */
  mayCut: () => boolean = () => true;
  /** called when there was output, or a client did something */
  onActivity: () => void = () => {};
  /** Unix time, milliseconds: of output, or of something that a client did */
  lastActivityMs = Date.now();
  readonly #stallLimits: StallLimits;
  readonly #readers = new Map<SessionClient, OutputReader>();
  #stallTimer: NodeJS.Timeout | undefined;
  #rate = 0;
  #uncounted = 0;
  #rateAtMs = performance.now();

  constructor(journal: Journal, stallLimits: StallLimits = STALL_LIMITS) {
    this.#stallLimits = stallLimits;
    this.journal = journal;
    journal.pinned = () => this.#slowest();
    journal.onRoom = () => this.#flow();
  }

  get readerCount(): number {
    return this.#readers.size;
  }

  get clients(): Iterable<SessionClient> {
    return this.#readers.keys();
  }

  /** The command has to wait. */
  get isFull(): boolean {
    return this.journal.isFull;
  }

  /** of output, over the last seconds */
  get bytesPerSecond(): number {
    this.#average();
    return this.#rate;
  }

  append(stream: number, data: Buffer): void {
    this.#count(data.length);
    this.journal.append(stream, data);
    this.#pump();
    this.#flow();
  }

  /** The end of the command. Readers hear of it after all output; the promise does not wait for them. */
  async finish(exitCode: number): Promise<void> {
    const written = this.journal.finish(exitCode);
    this.#pump();
    await written;
  }

  /** Something that is no output has happened. */
  touch(): void {
    this.lastActivityMs = Date.now();
    this.onActivity();
  }

  /** Call `start` on the reader when the client is ready. */
  addReader(client: SessionClient, offset: number): OutputReader {
    const reader = new OutputReader(this.journal, client, offset);
    reader.onProgress = () => {
      if (this.journal.isFull) this.journal.trim();
    };
    this.#readers.set(client, reader);
    return reader;
  }

  removeReader(client: SessionClient): boolean {
    this.#readers.get(client)?.stop();
    const was = this.#readers.delete(client);
    if (was) this.journal.trim();
    return was;
  }

  /** Frees a command that is to end from clients that hold it up. @param stallMs that they took nothing */
  cutStalled(stallMs: number): void {
    for (const [client, reader] of this.#readers) {
      if (reader.stalledMs < stallMs) continue;
      client.cut(`nothing was taken for ${Math.round(reader.stalledMs / 1_000)} s`);
      this.removeReader(client);
    }
  }

  #slowest(): number {
    let offset = Number.POSITIVE_INFINITY;
    for (const reader of this.#readers.values()) offset = Math.min(offset, reader.offset);
    return offset;
  }

  #pump(): void {
    for (const reader of this.#readers.values()) reader.pump();
  }

  #flow(): void {
    this.onFlow();
    if (!this.journal.isFull) {
      clearInterval(this.#stallTimer);
      this.#stallTimer = undefined;
    } else this.#stallTimer ??= setInterval(() => this.#check(), this.#stallLimits.checkMs).unref();
  }

  #check(): void {
    if (this.mayCut()) this.cutStalled(this.#stallLimits.stallMs);
  }

  #count(bytes: number): void {
    this.touch();
    this.#uncounted += bytes;
    if (performance.now() - this.#rateAtMs >= RATE_STEP_MS) this.#average();
  }

  #average(): void {
    const nowMs = performance.now();
    this.#rate = this.#rate * Math.exp((this.#rateAtMs - nowMs) / RATE_MS) + this.#uncounted / (RATE_MS / 1_000);
    this.#uncounted = 0;
    this.#rateAtMs = nowMs;
  }
}
