import { type FileHandle, mkdir, open, readdir, readFile, rm, truncate, unlink } from "node:fs/promises";
import { join } from "node:path";
import { STREAM } from "@hob/protocol";
import { type Decoded, decodeRecords, encodeHeader, endOf, type OutputRecord, RECORD_BYTES_MAX, RECORD_HEADER_BYTES } from "./records.ts";

interface Segment {
  /** offset of its first byte of output; also its name */
  readonly start: number;
  end: number;
  /** of the file */
  bytes: number;
}

/** Bytes taken from disk at once: at least one whole record. */
const READ_BYTES = 4 * (RECORD_HEADER_BYTES + RECORD_BYTES_MAX);

const SEGMENT_NAME = /^(\d{16})\.journal$/;
const nameOf = (start: number): string => `${String(start).padStart(16, "0")}.journal`;

/** Where the record that begins at `offset` lies, so that reading on needs no search. */
interface Place {
  readonly offset: number;
  readonly start: number;
  readonly position: number;
}

/**
 * The part of a journal that is on disk: files of bounded size, each beginning where the one before it ends. Calls that
 * write must not overlap; the owner puts them in order.
 */
export class Segments {
  readonly directory: string;
  readonly #segmentBytes: number;
  readonly #segments: Segment[] = [];
  #file: FileHandle | undefined;
  #bytes = 0;
  #exists = false;
  readonly #onCreated: () => Promise<void>;

  /** @param onCreated after the directory was made, before the first file */
  constructor(directory: string, segmentBytes: number, onCreated: () => Promise<void> = async () => {}) {
    this.directory = directory;
    this.#segmentBytes = segmentBytes;
    this.#onCreated = onCreated;
  }

  /** offset of the first byte that is kept; undefined while there is none */
  get start(): number | undefined {
    return this.#segments[0]?.start;
  }

  /** offset after the last byte that is kept */
  get end(): number | undefined {
    return this.#segments.at(-1)?.end;
  }

  /** size of all files */
  get bytes(): number {
    return this.#bytes;
  }

  /** Finds what a predecessor wrote, and cuts off what it did not finish. @returns the exit status, if it was written */
  async recover(): Promise<number | undefined> {
    const starts = (await readdir(this.directory)).flatMap((name) => SEGMENT_NAME.exec(name)?.[1] ?? []).map(Number);
    let exitCode: number | undefined;
    for (const start of starts.sort((a, b) => a - b)) {
      const path = join(this.directory, nameOf(start));
      const last = this.#segments.at(-1);
      // What follows a hole cannot be counted on.
      if (exitCode !== undefined || (last !== undefined && last.end !== start)) {
        await unlink(path);
        continue;
      }
      const decoded = decodeRecords(await readFile(path), start);
      await truncate(path, decoded.bytes);
      this.#add({ start, end: decoded.end, bytes: decoded.bytes });
      exitCode = decoded.exitCode;
    }
    this.#exists = true;
    return exitCode;
  }

  /** @throws what the file system says; nothing is written then, as far as the next call is concerned */
  async append(records: readonly OutputRecord[]): Promise<void> {
    for (let from = 0; from < records.length; ) {
      const segment = await this.#open(records[from]?.offset ?? 0);
      const parts: Buffer[] = [];
      let size = segment.bytes;
      let to = from;
      for (; to < records.length && (to === from || size < this.#segmentBytes); to++) {
        const { stream, data } = records[to] as OutputRecord;
        parts.push(encodeHeader(stream, data.length), data);
        size += RECORD_HEADER_BYTES + data.length;
      }
      await this.#write(segment, parts);
      segment.end = endOf(records[to - 1] as OutputRecord);
      from = to;
    }
  }

  /** Writes the end, after which there is no more output. @param offset after the last output */
  async appendExit(offset: number, exitCode: number): Promise<void> {
    await this.#write(await this.#open(offset), [encodeHeader(STREAM.exit, 1), Buffer.of(exitCode)]);
  }

  /**
   * Records from the one that holds `offset` on, some hundred kilobytes of them.
   * @param place from the last call, if this one goes on where that ended
   */
  async read(offset: number, place?: Place): Promise<{ records: OutputRecord[]; place: Place | undefined }> {
    const segment = this.#segments.findLast(({ start }) => start <= offset);
    if (segment === undefined || offset >= segment.end) return { records: [], place: undefined };
    const file = await open(join(this.directory, nameOf(segment.start)), "r");
    try {
      let from: Place =
        place?.offset === offset && place.start === segment.start ? place : { offset: segment.start, start: segment.start, position: 0 };
      for (;;) {
        const decoded = await readAt(file, from, segment.bytes);
        const records = decoded.records.filter((record) => endOf(record) > offset);
        const next = { offset: decoded.end, start: segment.start, position: from.position + decoded.bytes };
        if (records.length > 0 || decoded.bytes === 0) return { records, place: next };
        from = next;
      }
    } finally {
      await file.close();
    }
  }

  /** Removes the oldest file, unless it is the one that is written. @returns whether there was one */
  async dropOldest(): Promise<boolean> {
    const [oldest] = this.#segments;
    if (oldest === undefined || this.#segments.length === 1) return false;
    this.#segments.shift();
    this.#bytes -= oldest.bytes;
    // Whoever reads it holds it open.
    await unlink(join(this.directory, nameOf(oldest.start)));
    return true;
  }

  /** offset of the first byte that would be kept after `dropOldest`; undefined if it would do nothing */
  get secondStart(): number | undefined {
    return this.#segments[1]?.start;
  }

  /** Nothing is written from now on. */
  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async remove(): Promise<void> {
    await this.close();
    this.#segments.length = 0;
    this.#bytes = 0;
    await rm(this.directory, { recursive: true, force: true });
  }

  async #create(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    await this.#onCreated();
    this.#exists = true;
  }

  #add(segment: Segment): void {
    this.#segments.push(segment);
    this.#bytes += segment.bytes;
  }

  /** The segment that takes the next record, its file open. */
  async #open(offset: number): Promise<Segment> {
    let last = this.#segments.at(-1);
    if (last === undefined || last.bytes >= this.#segmentBytes) {
      await this.close();
      if (!this.#exists) await this.#create();
      this.#file = await open(join(this.directory, nameOf(offset)), "wx", 0o600);
      last = { start: offset, end: offset, bytes: 0 };
      this.#add(last);
    }
    this.#file ??= await open(join(this.directory, nameOf(last.start)), "r+");
    return last;
  }

  async #write(segment: Segment, parts: Buffer[]): Promise<void> {
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    const { bytesWritten } = (await this.#file?.writev(parts, segment.bytes)) ?? { bytesWritten: 0 };
    // A disk that is full takes a part; the next write goes over it.
    if (bytesWritten !== size) throw Object.assign(new Error(`write ${size} bytes: ${bytesWritten} were written`), { code: "ENOSPC" });
    segment.bytes += size;
    this.#bytes += size;
  }
}

async function readAt(file: FileHandle, from: Place, size: number): Promise<Decoded> {
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, Math.max(0, size - from.position)));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, from.position);
  return decodeRecords(buffer.subarray(0, bytesRead), from.offset);
}

export type { Place };
