import { randomBytes } from "node:crypto";
import type { ChunkRef, Encoding } from "../map/chunk-ref.ts";
import { isStoredLength } from "./chunk-codec.ts";
import { beginsWith, damaged } from "./damage.ts";
import { HASH_BYTES, sha256 } from "./hash.ts";
import { MAP_FANOUT, MAP_LEVELS, MAX_PACK_BYTES } from "./limits.ts";
import { PACK_HEADER_BYTES } from "./pack.ts";

const MAGIC = Buffer.from("HOBPAGE1", "latin1");
const HEADER_BYTES = 24;
const SALT_OFFSET = 16;
const SALT_BYTES = 8;
const LEAF_ENTRY_BYTES = 44;
const INNER_ENTRY_BYTES = 40;

/** The largest page: a leaf whose entries are all in different packs. */
export const MAX_PAGE_BYTES = HEADER_BYTES + MAP_FANOUT * (HASH_BYTES + LEAF_ENTRY_BYTES);

/** What an inner page says of a page below it. */
export interface ChildRef {
  readonly page: string;
  /** blocks below that have a chunk */
  readonly blocks: number;
}

/** `entries` by index; a missing one means zeros. */
export interface LeafPage {
  readonly level: 0;
  readonly entries: ReadonlyMap<number, ChunkRef>;
}

export interface InnerPage {
  readonly level: 1 | 2;
  readonly entries: ReadonlyMap<number, ChildRef>;
}

export type Page = LeafPage | InnerPage;

export interface EncodedPage {
  name: string;
  bytes: Buffer;
}

/** Blocks that a page of this level covers. */
export const blocksOfLevel = (level: number): number => MAP_FANOUT ** (level + 1);

/** Blocks with a chunk on and below this page. */
export function storedBlocks(page: Page): number {
  if (page.level === 0) return page.entries.size;
  let sum = 0;
  for (const child of page.entries.values()) sum += child.blocks;
  return sum;
}

/** The random bytes of an encoded page: with them, and what it says, it can be written again under its name. */
export const saltOf = (bytes: Buffer): Buffer => Buffer.from(bytes.subarray(SALT_OFFSET, SALT_OFFSET + SALT_BYTES));

/** @param salt of a page that is written again; a new page has its own */
export function encodePage(page: Page, salt: Buffer = randomBytes(SALT_BYTES)): EncodedPage {
  const indexes = [...page.entries.keys()].sort((a, b) => a - b);
  const packs = page.level === 0 ? [...new Set([...page.entries.values()].map((ref) => ref.pack))].sort() : [];
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt8(page.level, 8);
  header.writeUInt16LE(indexes.length, 10);
  header.writeUInt16LE(packs.length, 12);
  salt.copy(header, SALT_OFFSET);
  const table = Buffer.from(packs.join(""), "hex");
  const body = page.level === 0 ? encodeLeaf(page, indexes, packs) : encodeInner(page, indexes);
  const bytes = Buffer.concat([header, table, body]);
  return { name: sha256(bytes), bytes };
}

function encodeLeaf(page: LeafPage, indexes: readonly number[], packs: readonly string[]): Buffer {
  const positions = new Map(packs.map((pack, position) => [pack, position]));
  const body = Buffer.alloc(indexes.length * LEAF_ENTRY_BYTES);
  indexes.forEach((index, number) => {
    const ref = page.entries.get(index) as ChunkRef;
    const at = number * LEAF_ENTRY_BYTES;
    body.writeUInt8(index, at);
    body.writeUInt8(ref.encoding, at + 1);
    body.writeUInt16LE(positions.get(ref.pack) as number, at + 2);
    body.writeUInt32LE(ref.offset, at + 4);
    body.writeUInt32LE(ref.storedBytes, at + 8);
    body.write(ref.hash, at + 12, "hex");
  });
  return body;
}

function encodeInner(page: InnerPage, indexes: readonly number[]): Buffer {
  const body = Buffer.alloc(indexes.length * INNER_ENTRY_BYTES);
  indexes.forEach((index, number) => {
    const child = page.entries.get(index) as ChildRef;
    const at = number * INNER_ENTRY_BYTES;
    body.writeUInt8(index, at);
    body.writeUInt32LE(child.blocks, at + 4);
    body.write(child.page, at + 8, "hex");
  });
  return body;
}

/**
 * A page, with every rule of the format checked but its name.
 *
 * @throws HobError `data_damaged`, `store_unsupported` when it is newer than this program
 */
export function decodePage(key: string, bytes: Buffer): Page {
  if (bytes.length < HEADER_BYTES || bytes.length > MAX_PAGE_BYTES || !beginsWith(key, bytes, MAGIC)) throw damaged(key, "is not a page");
  const level = bytes.readUInt8(8);
  const count = bytes.readUInt16LE(10);
  const packs = bytes.readUInt16LE(12);
  const entryBytes = level === 0 ? LEAF_ENTRY_BYTES : INNER_ENTRY_BYTES;
  const packsFit = level === 0 ? packs >= 1 && packs <= count : packs === 0;
  if (bytes.readUInt8(9) !== 0 || bytes.readUInt16LE(14) !== 0 || level >= MAP_LEVELS || count < 1 || count > MAP_FANOUT || !packsFit)
    throw damaged(key, "has a malformed header");
  if (bytes.length !== HEADER_BYTES + packs * HASH_BYTES + count * entryBytes)
    throw damaged(key, "does not have the size that its header says");
  const body = bytes.subarray(HEADER_BYTES + packs * HASH_BYTES);
  if (level === 0) return { level, entries: decodeLeaf(key, body, decodeTable(key, bytes, packs)) };
  return { level: level as 1 | 2, entries: decodeInner(key, body, level) };
}

function decodeTable(key: string, bytes: Buffer, packs: number): string[] {
  const table: string[] = [];
  for (let number = 0; number < packs; number++) {
    const at = HEADER_BYTES + number * HASH_BYTES;
    const pack = bytes.toString("hex", at, at + HASH_BYTES);
    if (number > 0 && pack <= (table[number - 1] as string)) throw damaged(key, "has a table of packs that is not sorted");
    table.push(pack);
  }
  return table;
}

function decodeLeaf(key: string, body: Buffer, table: readonly string[]): Map<number, ChunkRef> {
  const entries = new Map<number, ChunkRef>();
  const used = new Set<number>();
  let last = -1;
  for (let at = 0; at < body.length; at += LEAF_ENTRY_BYTES) {
    const index = body.readUInt8(at);
    const encoding = body.readUInt8(at + 1);
    const position = body.readUInt16LE(at + 2);
    const pack = table[position];
    const offset = body.readUInt32LE(at + 4);
    const storedBytes = body.readUInt32LE(at + 8);
    const inPack = offset >= PACK_HEADER_BYTES && offset + storedBytes <= MAX_PACK_BYTES && isStoredLength(encoding, storedBytes);
    if (index <= last || pack === undefined || !inPack) throw damaged(key, `has a malformed entry ${entries.size}`);
    const hash = body.toString("hex", at + 12, at + LEAF_ENTRY_BYTES);
    entries.set(index, { hash, pack, offset, storedBytes, encoding: encoding as Encoding });
    used.add(position);
    last = index;
  }
  if (used.size !== table.length) throw damaged(key, "names a pack that it does not use");
  return entries;
}

function decodeInner(key: string, body: Buffer, level: number): Map<number, ChildRef> {
  const entries = new Map<number, ChildRef>();
  let last = -1;
  for (let at = 0; at < body.length; at += INNER_ENTRY_BYTES) {
    const index = body.readUInt8(at);
    const blocks = body.readUInt32LE(at + 4);
    if (index <= last || body.readUIntLE(at + 1, 3) !== 0 || blocks < 1 || blocks > blocksOfLevel(level - 1))
      throw damaged(key, `has a malformed entry ${entries.size}`);
    entries.set(index, { page: body.toString("hex", at + 8, at + INNER_ENTRY_BYTES), blocks });
    last = index;
  }
  return entries;
}
