import { LIMITS } from "@hob/protocol";
import { endOf, type OutputRecord, RECORD_BYTES_MAX } from "./records.ts";
import { type Place, Segments } from "./segments.ts";

export interface JournalLimits {
  /** of one file */
  readonly segmentBytes: number;
  /** of all files of one session; the oldest go first */
  readonly diskBytes: number;
  /** newest output that is kept in memory too, for readers who are a little behind */
  readonly memoryBytes: number;
  /** output that is written at once when so much has gathered; less waits for the delay */
  readonly flushBytes: number;
  readonly flushDelayMs: number;
}

export const JOURNAL_LIMITS: JournalLimits = {
  segmentBytes: LIMITS.journalSegmentBytes,
  diskBytes: LIMITS.sessionJournalBytes,
  memoryBytes: 256 * 1024,
  flushBytes: 256 * 1024,
  flushDelayMs: 1_000,
};

/** Not written yet: beyond it the process has to wait for the disk. */
const UNWRITTEN_BYTES_MAX = 1024 * 1024;
/** A session that ends with no more than this, before it was written, stays in memory: the sessions of most scripts do. */
const SMALL_BYTES = 32 * 1024;
/** What a record takes in memory besides its data. */
const RECORD_OVERHEAD_BYTES = 128;

/** An answer of {@link Journal.read}: records without a gap between them, and where to go on reading. */
export interface ReadResult {
  readonly records: readonly OutputRecord[];
  readonly place: Place | undefined;
}

/**
 * All output of one session, by offset: the newest in memory, everything within its bound on disk. A session that ends
 * soon after a little output never touches the disk.
 *
 * A disk that fails or is full costs the old output, not the session: from then on the journal is what memory holds.
 */
export class Journal {
  /** called when output was written or dropped, so that a process that had to wait may go on */
  onRoom: () => void = () => {};
  /** called when there is more on disk than before */
  onWritten: () => void = () => {};
  /** called once, with the error, when the disk failed */
  onFailure: (error: NodeJS.ErrnoException) => void = () => {};
  /** The oldest offset that somebody is still to read; nothing from there on is dropped. */
  pinned: () => number = () => Number.POSITIVE_INFINITY;
  readonly #segments: Segments;
  readonly #limits: JournalLimits;
  #recent: OutputRecord[] = [];
  #recentBytes = 0;
  #start = 0;
  #end = 0;
  /** everything before this offset is on disk, or was */
  #written = 0;
  #exitCode: number | undefined;
  #failed = false;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = false;

  /**
   * @param directory of this journal alone; made when it is needed
   * @param onCreated writes what else belongs there, before the first output
   */
  constructor(directory: string, limits: JournalLimits = JOURNAL_LIMITS, onCreated: () => Promise<void> = async () => {}) {
    this.#segments = new Segments(directory, limits.segmentBytes, onCreated);
    this.#limits = limits;
  }

  /** The journal that a predecessor left in this directory, as far as it was written. */
  static async recover(directory: string, limits: JournalLimits = JOURNAL_LIMITS): Promise<Journal> {
    const journal = new Journal(directory, limits);
    journal.#exitCode = await journal.#segments.recover();
    journal.#start = journal.#segments.start ?? 0;
    journal.#end = journal.#written = journal.#segments.end ?? 0;
    return journal;
  }

  /** offset of the first byte that is kept */
  get start(): number {
    return this.#start;
  }

  /** offset after the last byte */
  get end(): number {
    return this.#end;
  }

  /** undefined until the end of the session */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  get diskBytes(): number {
    return this.#segments.bytes;
  }

  /** No more output fits: the disk is behind, or somebody has not read what would have to be dropped. */
  get isFull(): boolean {
    if (this.#failed) return this.#recentBytes > 2 * this.#limits.memoryBytes;
    return this.#end - this.#written > UNWRITTEN_BYTES_MAX || this.diskBytes > this.#limits.diskBytes;
  }

  /** @param data kept as it is; the caller must not change it */
  append(stream: number, data: Buffer): void {
    for (let at = 0; at < data.length; at += RECORD_BYTES_MAX) {
      const record = { offset: this.#end, stream, data: data.subarray(at, at + RECORD_BYTES_MAX) };
      this.#recent.push(record);
      this.#recentBytes += record.data.length + RECORD_OVERHEAD_BYTES;
      this.#end = endOf(record);
    }
    this.#dropRecent();
    this.#schedule();
  }

  /** The end of the session. What is not on disk by now stays in memory only if it is little. */
  async finish(exitCode: number): Promise<void> {
    this.#exitCode = exitCode;
    clearTimeout(this.#timer);
    const isSmall = this.#written === 0 && !this.#isWriting && this.#recentBytes <= Math.min(SMALL_BYTES, this.#limits.flushBytes);
    if (isSmall || this.#failed) return;
    await this.#write(async () => {
      await this.#writeAll();
      await this.#segments.appendExit(this.#end, exitCode);
      await this.#segments.close();
      this.#forgetRecent();
    });
  }

  /** The record that holds the byte at `offset`, if it is in memory. */
  recent(offset: number): OutputRecord | undefined {
    const newest = this.#recent.at(-1);
    if (newest?.offset === offset) return newest;
    let low = 0;
    let high = this.#recent.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#recent[middle] as OutputRecord).offset <= offset) low = middle;
      else high = middle - 1;
    }
    const found = this.#recent[low];
    return found !== undefined && found.offset <= offset && offset < endOf(found) ? found : undefined;
  }

  /**
   * Records from disk, the first of which holds `offset` or, if that is kept no more, is the oldest.
   * @param place from the last call, if this one goes on where that ended
   */
  async read(offset: number, place?: Place): Promise<ReadResult> {
    for (;;) {
      const from = Math.max(offset, this.#start);
      try {
        return await this.#segments.read(from, place);
      } catch (error) {
        // It was dropped at this moment.
        if ((error as NodeJS.ErrnoException).code !== "ENOENT" || this.#start <= from) throw error;
      }
    }
  }

  /** Drops the oldest file, to make room for others. @returns whether there was one that nobody reads */
  async dropOldest(): Promise<boolean> {
    let dropped = false;
    await this.#write(async () => {
      dropped = await this.#dropSegment();
    });
    return dropped;
  }

  /** Removes all that is kept. */
  async remove(): Promise<void> {
    clearTimeout(this.#timer);
    this.#start = this.#end;
    this.#forgetRecent();
    await this.#write(() => this.#segments.remove());
  }

  #schedule(): void {
    if (this.#failed || this.#isWriting) return;
    if (this.#end - this.#written >= this.#limits.flushBytes) void this.#write(() => this.#writeAll());
    else this.#timer ??= setTimeout(() => void this.#write(() => this.#writeAll()), this.#limits.flushDelayMs);
  }

  /** One after the other; a failure ends all writing. */
  #write(work: () => Promise<void>): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isWriting = true;
    const mine = this.#writing.then(async () => {
      if (!this.#failed) await work().catch((error: NodeJS.ErrnoException) => this.#fail(error));
      if (this.#writing !== mine) return;
      this.#isWriting = false;
      if (this.#end > this.#written && this.#exitCode === undefined) this.#schedule();
    });
    this.#writing = mine;
    return mine;
  }

  async #writeAll(): Promise<void> {
    const records = this.#recent.filter(({ offset }) => offset >= this.#written);
    const last = records.at(-1);
    if (last === undefined) return;
    await this.#segments.append(records);
    this.#written = endOf(last);
    await this.#dropSegments();
    this.#dropRecent();
    this.onRoom();
    this.onWritten();
  }

  async #dropSegment(): Promise<boolean> {
    const next = this.#segments.secondStart;
    if (next === undefined || this.pinned() < next) return false;
    this.#start = next;
    return this.#segments.dropOldest();
  }

  /** Somebody has read on: drops what had to wait for that. */
  trim(): void {
    if (this.#failed) {
      this.#dropRecent();
      this.onRoom();
    } else if (this.diskBytes > this.#limits.diskBytes && this.pinned() >= (this.#segments.secondStart ?? Number.POSITIVE_INFINITY)) {
      void this.#write(() => this.#dropSegments()).then(() => this.onRoom());
    }
  }

  async #dropSegments(): Promise<void> {
    while (this.diskBytes > this.#limits.diskBytes && (await this.#dropSegment())) {}
  }

  /** Memory keeps what is not on disk, and of the rest the newest. Not at each record: the array is copied. */
  #dropRecent(): void {
    if (this.#recentBytes < 1.25 * this.#limits.memoryBytes) return;
    let drop = 0;
    for (; this.#recentBytes > this.#limits.memoryBytes; drop++) {
      const oldest = this.#recent[drop];
      if (oldest === undefined) break;
      const mayGo = this.#failed ? this.pinned() >= endOf(oldest) : endOf(oldest) <= this.#written;
      if (!mayGo) break;
      this.#recentBytes -= oldest.data.length + RECORD_OVERHEAD_BYTES;
      if (this.#failed) this.#start = endOf(oldest);
    }
    if (drop > 0) this.#recent = this.#recent.slice(drop);
  }

  #forgetRecent(): void {
    this.#recent = [];
    this.#recentBytes = 0;
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#failed = true;
    this.#start = this.#recent[0]?.offset ?? this.#end;
    void this.#segments.remove().catch(() => {});
    this.#dropRecent();
    this.onFailure(error);
    this.onRoom();
  }
}
