import { createHash, type Hash } from "node:crypto";
import { HobError } from "@hob/protocol";
import { z } from "zod";
import { isStoredLength } from "../format/chunk-codec.ts";
import { beginsWith, newerVersion } from "../format/damage.ts";
import { checkpointSchema, FORMAT_VERSION, headSchema, spriteSchema } from "../format/documents.ts";
import { HASH_BYTES } from "../format/hash.ts";
import { MAX_BLOCKS, MAX_CHECKPOINTS } from "../format/limits.ts";
import type { Encoding } from "../map/chunk-ref.ts";

/** The records of an export (docs/formats/storage.md, "Export"). */

export const EXPORT_MAGIC = Buffer.from("HOBEXPT1", "latin1");
export const MAX_RECORD_BYTES = 4 * 1024 * 1024;
const RECORD_HEADER_BYTES = 5;
const BLOCK_HEADER_BYTES = 8 + HASH_BYTES;

export const RecordType = { header: 1, state: 2, block: 3, zero: 4, endState: 5, index: 6, end: 7 } as const;

const number = z.number().int().nonnegative();

export const exportHeader = z.object({
  format: z.literal("hob-export"),
  version: z.literal(FORMAT_VERSION),
  exportedAt: z.iso.datetime(),
  sprite: spriteSchema.optional(),
  head: headSchema,
});
export type ExportHeader = z.infer<typeof exportHeader>;

export const exportState = z.object({
  state: number.max(MAX_CHECKPOINTS),
  base: number.nullable(),
  checkpoint: checkpointSchema.optional(),
});
export type ExportState = z.infer<typeof exportState>;

export const exportEndState = z.object({ state: number, changes: number, storedBlocks: number.max(MAX_BLOCKS) });

export const exportIndex = z.object({ states: z.array(z.object({ state: number, offset: number, id: z.string().nullable() })) });

export interface ExportBlock {
  block: number;
  encoding: Encoding;
  hash: string;
  bytes: Buffer;
}

export interface ExportRecord {
  type: number;
  payload: Buffer;
  /** where in the file the record begins */
  offset: number;
}

/** Makes records, and knows how many bytes there were and their hash. */
export class RecordWriter {
  offset = 0;
  readonly #hash: Hash = createHash("sha256");

  magic(): Buffer {
    return this.#count(EXPORT_MAGIC);
  }

  json(type: number, value: unknown): Buffer {
    return this.record(type, Buffer.from(JSON.stringify(value)));
  }

  record(type: number, ...parts: readonly Buffer[]): Buffer {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    if (length > MAX_RECORD_BYTES) throw new HobError("payload_too_large", `cannot export a record of ${length} bytes`);
    const header = Buffer.alloc(RECORD_HEADER_BYTES);
    header.writeUInt8(type, 0);
    header.writeUInt32LE(length, 1);
    return this.#count(Buffer.concat([header, ...parts]));
  }

  block({ block, encoding, hash, bytes }: ExportBlock): Buffer {
    const header = Buffer.alloc(BLOCK_HEADER_BYTES);
    header.writeUInt32LE(block, 0);
    header.writeUInt8(encoding, 4);
    header.write(hash, 8, "hex");
    return this.record(RecordType.block, header, bytes);
  }

  zero(first: number, count: number): Buffer {
    const payload = Buffer.alloc(8);
    payload.writeUInt32LE(first, 0);
    payload.writeUInt32LE(count, 4);
    return this.record(RecordType.zero, payload);
  }

  end(): Buffer {
    return this.record(RecordType.end, this.#hash.copy().digest());
  }

  #count(bytes: Buffer): Buffer {
    this.offset += bytes.length;
    this.#hash.update(bytes);
    return bytes;
  }
}

/** Reads records of a stream, in memory no more than one of them and one piece of the stream. */
export class RecordReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #hash: Hash = createHash("sha256");
  #buffer: Buffer = Buffer.alloc(0);
  #offset = 0;
  #ended = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** @throws HobError `invalid_request` when the stream is no export, `store_unsupported` when it is a newer one */
  async begin(): Promise<void> {
    const magic = await this.#take(EXPORT_MAGIC.length);
    if (!beginsWith("the export", magic, EXPORT_MAGIC)) throw malformed("it does not begin like one");
  }

  /** @throws HobError `invalid_request`; when the stream ends before END, too */
  async next(): Promise<ExportRecord> {
    const offset = this.#offset;
    const digest = this.#hash.copy().digest();
    const header = await this.#take(RECORD_HEADER_BYTES);
    const length = header.readUInt32LE(1);
    if (length > MAX_RECORD_BYTES) throw malformed(`the record at ${offset} claims ${length} bytes`);
    const record = { type: header.readUInt8(0), payload: await this.#take(length), offset };
    if (record.type === RecordType.end) await this.#checkEnd(record.payload, digest);
    return record;
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    if (!this.#ended) await this.#source.return?.();
    this.#ended = true;
  }

  async #checkEnd(payload: Buffer, digest: Buffer): Promise<void> {
    if (!payload.equals(digest)) throw malformed("its checksum is wrong");
    await this.#fill(1);
    if (this.#buffer.length > 0) throw malformed("something follows its end");
  }

  async #take(length: number): Promise<Buffer> {
    await this.#fill(length);
    if (this.#buffer.length < length) throw malformed(`it ends in the middle, after ${this.#offset + this.#buffer.length} bytes`);
    const taken = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(length);
    this.#offset += length;
    this.#hash.update(taken);
    return taken;
  }

  async #fill(length: number): Promise<void> {
    const parts: Uint8Array[] = [this.#buffer];
    let have = this.#buffer.length;
    while (have < length && !this.#ended) {
      const next = await this.#source.next();
      this.#ended = next.done === true;
      if (next.done === true) break;
      parts.push(next.value);
      have += next.value.length;
    }
    if (parts.length > 1) this.#buffer = Buffer.concat(parts);
  }
}

/** @throws HobError `invalid_request` */
export function parseBlock({ payload, offset }: ExportRecord): ExportBlock {
  if (payload.length <= BLOCK_HEADER_BYTES) throw malformed(`the block at ${offset} is too short`);
  const block = payload.readUInt32LE(0);
  const encoding = payload.readUInt8(4);
  const bytes = payload.subarray(BLOCK_HEADER_BYTES);
  if (block >= MAX_BLOCKS || payload.readUIntLE(5, 3) !== 0 || !isStoredLength(encoding, bytes.length))
    throw malformed(`the block at ${offset} is malformed`);
  return { block, encoding: encoding as Encoding, hash: payload.toString("hex", 8, BLOCK_HEADER_BYTES), bytes };
}

/** @throws HobError `invalid_request` */
export function parseZero({ payload, offset }: ExportRecord): { first: number; count: number } {
  if (payload.length !== 8) throw malformed(`the zeros at ${offset} are malformed`);
  const [first, count] = [payload.readUInt32LE(0), payload.readUInt32LE(4)];
  if (count < 1 || first + count > MAX_BLOCKS) throw malformed(`the zeros at ${offset} are outside of a volume`);
  return { first, count };
}

/** @throws HobError `invalid_request`, `store_unsupported` */
export function parseJsonRecord<T>({ payload, offset }: ExportRecord, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString("utf8"));
  } catch (cause) {
    throw malformed(`the record at ${offset} is not JSON`, cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const version = typeof value === "object" && value !== null && "version" in value ? value.version : undefined;
  if (typeof version === "number" && version > FORMAT_VERSION) throw newerVersion("the export", version);
  const issue = parsed.error.issues[0];
  throw malformed(`the record at ${offset} does not have the expected form: ${issue?.path.join(".")}: ${issue?.message}`);
}

export const malformed = (why: string, cause?: unknown): HobError =>
  new HobError("invalid_request", `the file is not a whole export of a sprite: ${why}`, {
    hint: "export the sprite again; nothing was imported",
    ...(cause === undefined ? {} : { cause }),
  });
