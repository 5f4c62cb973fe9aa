import { type FileHandle, open, rename } from "node:fs/promises";
import { formatBlock, type LogBlock } from "./record.ts";
import type { WriteQueue } from "./write-queue.ts";

export interface RotationLimits {
  /** bytes after which a file is put aside */
  readonly fileBytes: number;
  /** files in all, the present one included; at least 2 */
  readonly files: number;
}

/** Of each service, 24 MiB at most. */
export const ROTATION: RotationLimits = { fileBytes: 8 * 1024 * 1024, files: 3 };

const LINE_FEED = 0x0a;

/** Bytes that may wait for the disk before their writer should pause. */
const PENDING_HIGH_BYTES = 1024 * 1024;

/** A part of a log as it was at one moment, to be read once and closed. */
export interface LogSegment {
  readonly file: FileHandle;
  readonly bytes: number;
}

/**
 * The log of one service: `NAME.log`, older parts in `NAME.log.1`, `NAME.log.2`. Lines are taken at once and written in
 * the background, in order. What the disk refuses is lost, counted, and said in the log when it can be written again.
 */
export class LogFile {
  readonly #path: string;
  readonly #queue: WriteQueue;
  readonly #limits: RotationLimits;
  readonly #onWritten: () => void;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  /** records of the write that is scheduled and has not begun */
  #batch: Buffer[] | undefined;
  #pendingBytes = 0;
  #lostLines = 0;
  #onDrain: (() => void) | undefined;

  /** @param onWritten called after each write */
  constructor(path: string, queue: WriteQueue, limits: RotationLimits = ROTATION, onWritten = () => {}) {
    this.#path = path;
    this.#queue = queue;
    this.#limits = limits;
    this.#onWritten = onWritten;
  }

  /** Takes lines. @returns false if the writer should pause until `onDrain` */
  append(block: LogBlock): boolean {
    const records = formatBlock(block);
    this.#pendingBytes += records.length;
    if (this.#batch === undefined) {
      const batch: Buffer[] = [];
      this.#batch = batch;
      void this.#queue.run(() => this.#write(batch));
    }
    this.#batch.push(records);
    return this.#pendingBytes < PENDING_HIGH_BYTES;
  }

  /** Called each time nothing waits for the disk any more. */
  onDrain(callback: () => void): void {
    this.#onDrain = callback;
  }

  /**
   * The whole log up to the last line that was taken before this call, oldest part first, and nothing that comes
   * later. The caller closes the files.
   */
  snapshot(): Promise<LogSegment[]> {
    // Lines from now on go into another batch, behind this.
    this.#batch = undefined;
    return this.#queue.run(async () => {
      const segments: LogSegment[] = [];
      for (let age = this.#limits.files - 1; age >= 0; age--) {
        const file = await open(this.#pathOf(age), "r").catch(ignoreMissing);
        if (file !== undefined) segments.push({ file, bytes: (await file.stat()).size });
      }
      return segments;
    });
  }

  /** Writes what waits and lets go of the file; the next line opens it again. */
  close(): Promise<void> {
    this.#batch = undefined;
    return this.#queue.run(() => this.#closeFile());
  }

  async #write(batch: Buffer[]): Promise<void> {
    if (this.#batch === batch) this.#batch = undefined;
    const records = Buffer.concat(batch);
    try {
      if (this.#lostLines > 0) await this.#writeRecords(lossNotice(this.#lostLines));
      this.#lostLines = 0;
      await this.#writeRecords(records);
      this.#onWritten();
    } catch {
      this.#lostLines += records.toString("latin1").split("\n").length - 1;
      await this.#closeFile().catch(() => {});
    } finally {
      this.#pendingBytes -= records.length;
      if (this.#pendingBytes === 0) this.#onDrain?.();
    }
  }

  /** A record is never divided between two files. */
  async #writeRecords(records: Buffer): Promise<void> {
    for (let rest = records; rest.length > 0; ) {
      const file = await this.#open();
      const room = this.#limits.fileBytes - this.#fileBytes;
      const cut = rest.length <= room ? rest.length : room <= 0 ? 0 : rest.lastIndexOf(LINE_FEED, room - 1) + 1;
      // A record that fits no file has one to itself.
      const bytes = cut === 0 && this.#fileBytes === 0 ? rest.indexOf(LINE_FEED) + 1 : cut;
      if (bytes === 0) {
        await this.#rotate();
        continue;
      }
      await file.appendFile(rest.subarray(0, bytes));
      this.#fileBytes += bytes;
      rest = rest.subarray(bytes);
    }
  }

  async #open(): Promise<FileHandle> {
    if (this.#file !== undefined) return this.#file;
    // Readable by every user of the sprite, who sees the folder read-only.
    const file = await open(this.#path, "a+", 0o644);
    this.#file = file;
    this.#fileBytes = (await file.stat()).size;
    await this.#endTornRecord(file);
    return file;
  }

  /** A record that a crash cut short would else swallow the next one. */
  async #endTornRecord(file: FileHandle): Promise<void> {
    if (this.#fileBytes === 0) return;
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, this.#fileBytes - 1);
    if (buffer.toString("latin1") === "\n") return;
    await file.appendFile("\n");
    this.#fileBytes += 1;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #rotate(): Promise<void> {
    await this.#closeFile();
    for (let age = this.#limits.files - 2; age >= 0; age--) await rename(this.#pathOf(age), this.#pathOf(age + 1)).catch(ignoreMissing);
    await this.#open();
  }

  #pathOf(age: number): string {
    return age === 0 ? this.#path : `${this.#path}.${age}`;
  }
}

const lossNotice = (lines: number): Buffer =>
  formatBlock({ stream: "stderr", text: Buffer.from(`hob: ${lines} lines could not be written here\n`), timeMs: Date.now() });

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
  return undefined;
}
