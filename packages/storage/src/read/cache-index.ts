import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { crc32 } from "node:zlib";

/**
 * The file `index` of a cache (docs/formats/storage.md, "The local cache"): a header, and for each place what is in it. All
 * integers are little-endian.
 */
const MAGIC = Buffer.from("HOBCACH1", "latin1");
const HEADER_BYTES = 16;
const RECORD_BYTES = 48;
const HASH_BYTES = 32;
const AT = { use: 32, crc: 40 } as const;

/** Which place holds which chunk, least recently used first. */
export class CacheIndex {
  /** whether nothing was there that could be used */
  readonly isNew: boolean;
  readonly #file: FileHandle;
  readonly #slots: number;
  /** a Map keeps the order of insertion: the one used last is last */
  readonly #slotOf: Map<string, number>;
  readonly #free: number[];
  /** places from here on were never used */
  #grown: number;
  #lastUse: number;

  private constructor(file: FileHandle, slots: number, found: Found | undefined) {
    this.#file = file;
    this.#slots = slots;
    this.isNew = found === undefined;
    this.#slotOf = new Map(found?.entries);
    this.#free = found?.free ?? [];
    this.#grown = found?.grown ?? 0;
    this.#lastUse = found?.lastUse ?? 0;
  }

  /** The index at `path`; an empty one in its place when it is damaged, or of a cache of another size. */
  static async open(path: string, slots: number): Promise<CacheIndex> {
    const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const found = decode(await file.readFile(), slots);
      if (found === undefined) {
        await file.truncate(0);
        await file.write(encodeHeader(slots), 0, HEADER_BYTES, 0);
      }
      return new CacheIndex(file, slots, found);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get size(): number {
    return this.#slotOf.size;
  }

  /** The place of a chunk, which is used with this. */
  use(hash: string): number | undefined {
    const slot = this.#slotOf.get(hash);
    if (slot === undefined) return undefined;
    this.#slotOf.delete(hash);
    this.#slotOf.set(hash, slot);
    return slot;
  }

  /** A place to be written: an unused one, or that of the chunk that was used longest ago. It is the caller's until `set` or `giveBack`. */
  take(mayGrow: boolean): number | undefined {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (mayGrow && this.#grown < this.#slots) return this.#grown++;
    const [oldest] = this.#slotOf;
    if (oldest === undefined) return undefined;
    this.#slotOf.delete(oldest[0]);
    return oldest[1];
  }

  giveBack(slot: number): void {
    this.#free.push(slot);
  }

  async set(slot: number, hash: string): Promise<void> {
    await this.#file.write(encodeRecord(hash, ++this.#lastUse), 0, RECORD_BYTES, HEADER_BYTES + slot * RECORD_BYTES);
    this.#slotOf.set(hash, slot);
  }

  async drop(hash: string): Promise<void> {
    const slot = this.#slotOf.get(hash);
    if (slot === undefined) return;
    this.#slotOf.delete(hash);
    this.#free.push(slot);
    await this.#file.write(Buffer.alloc(RECORD_BYTES), 0, RECORD_BYTES, HEADER_BYTES + slot * RECORD_BYTES);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

interface Found {
  /** least recently used first */
  entries: [hash: string, slot: number][];
  free: number[];
  grown: number;
  lastUse: number;
}

function decode(bytes: Buffer, slots: number): Found | undefined {
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, HEADER_BYTES).equals(encodeHeader(slots))) return undefined;
  const grown = Math.min(slots, Math.ceil((bytes.length - HEADER_BYTES) / RECORD_BYTES));
  const found: { hash: string; slot: number; use: number }[] = [];
  const free: number[] = [];
  for (let slot = 0; slot < grown; slot++) {
    const record = bytes.subarray(HEADER_BYTES + slot * RECORD_BYTES, HEADER_BYTES + (slot + 1) * RECORD_BYTES);
    const use = record.length === RECORD_BYTES && record.readUInt32LE(AT.crc) === checksum(record) ? record.readUIntLE(AT.use, 6) : 0;
    if (use === 0) free.push(slot);
    else found.push({ hash: record.toString("hex", 0, HASH_BYTES), slot, use });
  }
  found.sort((a, b) => a.use - b.use);
  const entries = new Map(found.map(({ hash, slot }) => [hash, slot]));
  // A crash may leave two places for one chunk: the older one is free.
  for (const { hash, slot } of found) if (entries.get(hash) !== slot) free.push(slot);
  return { entries: [...entries], free, grown, lastUse: found.at(-1)?.use ?? 0 };
}

function encodeHeader(slots: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(slots, 8);
  header.writeUInt32LE(crc32(header.subarray(0, 12)), 12);
  return header;
}

function encodeRecord(hash: string, use: number): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  record.write(hash, 0, "hex");
  record.writeUIntLE(use, AT.use, 6);
  record.writeUInt32LE(checksum(record), AT.crc);
  return record;
}

const checksum = (record: Buffer): number => crc32(record.subarray(0, AT.crc));
