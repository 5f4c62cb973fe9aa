import { HobError } from "@hob/protocol";
import { z } from "zod";
import { damaged, FORMAT_VERSION, newerVersion } from "./damage.ts";
import { sha256 } from "./hash.ts";
import {
  BLOCK_BYTES,
  MAX_BASES,
  MAX_BLOCKS,
  MAX_CHECKPOINT_NUMBER,
  MAX_CHECKPOINTS,
  MAX_DOCUMENT_BYTES,
  MAX_START_BLOCKS,
} from "./limits.ts";

export { FORMAT_VERSION };

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/);
const time = z.iso.datetime();
const count = z.number().int().nonnegative();
const blocks = count.max(MAX_BLOCKS);
const checkpointNumber = count.max(MAX_CHECKPOINT_NUMBER);
const volumeBytes = z
  .number()
  .int()
  .positive()
  .max(MAX_BLOCKS * BLOCK_BYTES)
  .multipleOf(BLOCK_BYTES);
const attributes = z.record(z.string().max(128), z.string().max(4096)).refine((all) => Object.keys(all).length <= 32, "more than 32");

export const originSchema = z.object({ sprite: name, checkpoint: name.nullable() });
export type Origin = z.infer<typeof originSchema>;

export const checkpointSchema = z.looseObject({
  format: z.literal("hob-checkpoint"),
  version: z.literal(FORMAT_VERSION),
  sprite: name,
  id: name,
  comment: z.string().max(4096),
  createdAt: time,
  parent: name.nullable(),
  root: hash.nullable(),
  volumeBytes,
  storedBlocks: blocks,
  automatic: z.boolean(),
  reason: z.string().max(128).optional(),
  epoch: count,
  changedBlocks: count.optional(),
  uploadedBytes: count.optional(),
  origin: originSchema.optional(),
  attributes: attributes.optional(),
});
export type CheckpointDocument = z.infer<typeof checkpointSchema>;

export const headSchema = z
  .looseObject({
    format: z.literal("hob-head"),
    version: z.literal(FORMAT_VERSION),
    sprite: name,
    owner: z.string().min(1).max(128),
    epoch: z.number().int().positive(),
    acquiredAt: time,
    writtenAt: time,
    writeId: z.string().regex(/^[0-9a-f]{32}$/),
    volumeBytes,
    root: hash.nullable(),
    storedBlocks: blocks,
    parent: name.nullable(),
    checkpoints: z.array(z.object({ id: name, document: hash })).max(MAX_CHECKPOINTS),
    lastCheckpoint: checkpointNumber,
    lastAutomatic: checkpointNumber.optional(),
    bases: z.array(hash).max(MAX_BASES).optional(),
    origin: originSchema.optional(),
    attributes: attributes.optional(),
  })
  .refine((head) => new Set(head.checkpoints.map(({ id }) => id)).size === head.checkpoints.length, "a checkpoint is named twice");
export type HeadDocument = z.infer<typeof headSchema>;

export const spriteSchema = z.looseObject({
  format: z.literal("hob-sprite"),
  version: z.literal(FORMAT_VERSION),
  id: name,
  name: z.string().min(1).max(128),
  organization: name,
  machineId: z.string().regex(/^[0-9a-f]{32}$/),
  labels: z.array(z.string().max(256)).max(256),
  createdAt: time,
  machine: z.object({ cpus: z.number().positive(), ramMb: z.number().positive(), storageGb: z.number().positive() }),
  environment: z.record(z.string(), z.string()),
  settings: z.record(z.string(), z.unknown()),
});
export type SpriteDocument = z.infer<typeof spriteSchema>;

/**
 * The blocks that a start read, in the order in which it came to them: pairs of first block and number. The first `untilReady`
 * of them it waited for.
 */
export const startSchema = z
  .looseObject({
    format: z.literal("hob-start"),
    version: z.literal(FORMAT_VERSION),
    sprite: name,
    recordedAt: time,
    reads: z.array(z.tuple([blocks, count.min(1)])).max(MAX_START_BLOCKS),
    untilReady: count.max(MAX_START_BLOCKS),
    checksum: hash,
  })
  .refine(({ reads }) => reads.every(([first, number]) => first + number <= MAX_BLOCKS), "it names blocks outside of any volume")
  .refine(({ reads }) => reads.reduce((sum, [, number]) => sum + number, 0) <= MAX_START_BLOCKS, "it names too many blocks")
  .refine(({ reads, checksum }) => checksumOfReads(reads) === checksum, "its checksum is not that of the blocks");
export type StartDocument = z.infer<typeof startSchema>;

export const checksumOfReads = (reads: readonly (readonly [first: number, count: number])[]): string =>
  sha256(Buffer.from(JSON.stringify(reads)));

type AnyDocument = CheckpointDocument | HeadDocument | SpriteDocument | StartDocument;

const SCHEMAS = {
  "hob-checkpoint": checkpointSchema,
  "hob-head": headSchema,
  "hob-sprite": spriteSchema,
  "hob-start": startSchema,
} as const;

/** @throws HobError `invalid_request` when it breaks the format, `payload_too_large` */
export function encodeDocument(document: AnyDocument): Buffer {
  const schema = SCHEMAS[document.format];
  const checked = schema.safeParse(document);
  if (!checked.success) throw new HobError("invalid_request", `cannot write ${document.format}: ${firstIssue(checked.error)}`);
  const bytes = Buffer.from(`${JSON.stringify(document)}\n`);
  if (bytes.length > MAX_DOCUMENT_BYTES) throw new HobError("payload_too_large", `cannot write ${document.format}: ${bytes.length} bytes`);
  return bytes;
}

/** @throws HobError `data_damaged`, `store_unsupported` when it is newer than this program */
export function decodeDocument<T extends AnyDocument>(key: string, bytes: Uint8Array, schema: z.ZodType<T>): T {
  const value = parseJson(key, bytes);
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const version = typeof value === "object" && value !== null && "version" in value ? value.version : undefined;
  if (typeof version === "number" && version > FORMAT_VERSION) throw newerVersion(key, version);
  throw damaged(key, `is not a document of the expected form: ${firstIssue(checked.error)}`);
}

function parseJson(key: string, bytes: Uint8Array): unknown {
  if (bytes.length > MAX_DOCUMENT_BYTES) throw damaged(key, `is longer than a document may be: ${bytes.length} bytes`);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged(key, "is not JSON", cause);
  }
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue === undefined ? "unknown" : `${issue.path.join(".") || "document"}: ${issue.message}`;
}
