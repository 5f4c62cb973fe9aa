import { createHash, randomBytes } from "node:crypto";
import type { Encoding } from "../map/chunk-ref.ts";
import { isStoredLength, type StoredChunk } from "./chunk-codec.ts";
import { beginsWith, damaged } from "./damage.ts";
import { HASH_BYTES, sha256 } from "./hash.ts";
import { MAX_PACK_BYTES, MAX_PACK_CHUNKS } from "./limits.ts";

const MAGIC = Buffer.from("HOBPACK1", "latin1");
const FOOTER_MAGIC = Buffer.from("HOBPACKE", "latin1");
export const PACK_HEADER_BYTES = 24;
export const PACK_ENTRY_BYTES = 40;
export const PACK_FOOTER_BYTES = 48;

export interface PackEntry {
  hash: string;
  offset: number;
  storedBytes: number;
  encoding: Encoding;
}

export interface SealedPack {
  /** SHA-256 of `bytes` */
  name: string;
  bytes: Buffer;
}

/** Memory for one pack. It is of the largest size; only what is written becomes resident. */
const packMemory = (): Buffer => Buffer.allocUnsafeSlow(MAX_PACK_BYTES);

/**
 * Collects chunks until the pack is sealed. They are copied into one block of memory: thousands of small pieces that live as
 * long as the pack would leave the heap full of holes. The hash grows with the pack: at the end, all of it would keep the
 * thread from everything else for a tenth of a second under emulation.
 */
export class PackBuilder {
  /** what the pack is put together in. Another pack may be, when this one is not needed any more */
  readonly memory: Buffer;
  readonly #hash = createHash("sha256");
  readonly #index: Buffer[] = [];
  #offset = 0;

  constructor(memory = packMemory()) {
    this.memory = memory;
    this.#append(MAGIC);
    this.#append(randomBytes(PACK_HEADER_BYTES - MAGIC.length));
  }

  /** size of the pack if it were sealed now */
  get sizeBytes(): number {
    return this.#offset + this.#index.length * PACK_ENTRY_BYTES + PACK_FOOTER_BYTES;
  }

  get chunks(): number {
    return this.#index.length;
  }

  fits(chunk: StoredChunk): boolean {
    return this.chunks < MAX_PACK_CHUNKS && this.sizeBytes + PACK_ENTRY_BYTES + chunk.bytes.length <= MAX_PACK_BYTES;
  }

  /** Copies a chunk, and returns its offset in the pack. The caller has asked `fits`. */
  add(hash: string, chunk: StoredChunk): number {
    const entry = Buffer.alloc(PACK_ENTRY_BYTES);
    entry.write(hash, 0, "hex");
    entry.writeUInt32LE(chunk.bytes.length, HASH_BYTES);
    entry.writeUInt8(chunk.encoding, HASH_BYTES + 4);
    this.#index.push(entry);
    const offset = this.#offset;
    this.#append(chunk.bytes);
    return offset;
  }

  /** The pack, in the builder's own memory: nothing is added afterwards. */
  seal(): SealedPack {
    const index = Buffer.concat(this.#index);
    const footer = Buffer.alloc(PACK_FOOTER_BYTES);
    footer.writeUInt32LE(this.chunks, 0);
    footer.writeUInt32LE(this.#offset, 4);
    FOOTER_MAGIC.copy(footer, 8);
    footer.write(sha256(index), 16, "hex");
    this.#append(index);
    this.#append(footer);
    return { name: this.#hash.digest("hex"), bytes: this.memory.subarray(0, this.#offset) };
  }

  #append(bytes: Buffer): void {
    this.#hash.update(bytes);
    this.#offset += bytes.copy(this.memory, this.#offset);
  }
}

/** Where the index of a pack is, from its footer. `sizeBytes` is that of the whole object. */
export interface PackFooter {
  chunks: number;
  indexOffset: number;
  indexHash: string;
}

/** @throws HobError `data_damaged` */
export function decodePackFooter(key: string, footer: Buffer, sizeBytes: number): PackFooter {
  if (footer.length !== PACK_FOOTER_BYTES || !footer.subarray(8, 16).equals(FOOTER_MAGIC)) throw damaged(key, "does not end like a pack");
  const chunks = footer.readUInt32LE(0);
  const indexOffset = footer.readUInt32LE(4);
  if (chunks < 1 || chunks > MAX_PACK_CHUNKS || sizeBytes > MAX_PACK_BYTES) throw damaged(key, `claims ${chunks} chunks`);
  if (indexOffset < PACK_HEADER_BYTES || indexOffset + chunks * PACK_ENTRY_BYTES + PACK_FOOTER_BYTES !== sizeBytes)
    throw damaged(key, "has an index that does not fit its size");
  return { chunks, indexOffset, indexHash: footer.toString("hex", 16) };
}

/** @throws HobError `data_damaged` */
export function decodePackIndex(key: string, index: Buffer, footer: PackFooter): PackEntry[] {
  if (index.length !== footer.chunks * PACK_ENTRY_BYTES || sha256(index) !== footer.indexHash) throw damaged(key, "has a damaged index");
  const entries: PackEntry[] = [];
  let offset = PACK_HEADER_BYTES;
  for (let at = 0; at < index.length; at += PACK_ENTRY_BYTES) {
    const storedBytes = index.readUInt32LE(at + HASH_BYTES);
    const encoding = index.readUInt8(at + HASH_BYTES + 4);
    if (!isStoredLength(encoding, storedBytes) || index.readUIntLE(at + HASH_BYTES + 5, 3) !== 0)
      throw damaged(key, `has a malformed entry ${entries.length} in its index`);
    entries.push({ hash: index.toString("hex", at, at + HASH_BYTES), offset, storedBytes, encoding: encoding as Encoding });
    offset += storedBytes;
  }
  if (offset !== footer.indexOffset) throw damaged(key, "has an index that does not add up");
  return entries;
}

/** The entries of a whole pack. Checks structure, not the pack's name. @throws HobError `data_damaged` */
export function decodePack(key: string, bytes: Buffer): PackEntry[] {
  if (bytes.length < PACK_HEADER_BYTES + PACK_FOOTER_BYTES || !beginsWith(key, bytes, MAGIC)) throw damaged(key, "is not a pack");
  const footer = decodePackFooter(key, bytes.subarray(bytes.length - PACK_FOOTER_BYTES), bytes.length);
  return decodePackIndex(key, bytes.subarray(footer.indexOffset, bytes.length - PACK_FOOTER_BYTES), footer);
}
