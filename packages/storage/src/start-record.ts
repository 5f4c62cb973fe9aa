import { checksumOfReads, decodeDocument, encodeDocument, FORMAT_VERSION, type StartDocument, startSchema } from "./format/documents.ts";
import type { SpriteKeys } from "./format/keys.ts";
import { MAX_DOCUMENT_BYTES, MAX_START_BLOCKS } from "./format/limits.ts";
import type { ObjectStore } from "./store/object-store.ts";

/**
 * The blocks that a sprite's last start read, in that order; those that the next start will most likely read. A hint: one
 * that is missing, damaged or of a newer version is none.
 *
 * @throws what the store throws
 */
export async function readStart(store: ObjectStore, keys: SpriteKeys): Promise<number[]> {
  const object = await store.get(keys.start, { maxBytes: MAX_DOCUMENT_BYTES });
  return object === undefined ? [] : blocksOf(keys.start, object.data);
}

/** @param blocks in the order in which they were read; what is beyond MAX_START_BLOCKS is left out. @throws what the store throws */
export async function writeStart(store: ObjectStore, keys: SpriteKeys, sprite: string, blocks: readonly number[]): Promise<void> {
  const reads = toRanges(blocks.slice(0, MAX_START_BLOCKS));
  const document: StartDocument = {
    format: "hob-start",
    version: FORMAT_VERSION,
    sprite,
    recordedAt: new Date().toISOString(),
    reads,
    checksum: checksumOfReads(reads),
  };
  await store.put(keys.start, encodeDocument(document));
}

/** For a fork, which starts much as its source does. It does without when that fails. */
export async function copyStart(store: ObjectStore, from: SpriteKeys, to: SpriteKeys, sprite: string): Promise<void> {
  try {
    const blocks = await readStart(store, from);
    if (blocks.length > 0) await writeStart(store, to, sprite, blocks);
  } catch {
    // What it costs is time at one start.
  }
}

function blocksOf(key: string, data: Buffer): number[] {
  try {
    const { reads } = decodeDocument(key, data, startSchema);
    return reads.flatMap(([first, count]) => Array.from({ length: count }, (_, index) => first + index));
  } catch {
    return [];
  }
}

function toRanges(blocks: readonly number[]): [first: number, count: number][] {
  const ranges: [number, number][] = [];
  for (const block of blocks) {
    const last = ranges.at(-1);
    if (last !== undefined && block === last[0] + last[1]) last[1]++;
    else ranges.push([block, 1]);
  }
  return ranges;
}
