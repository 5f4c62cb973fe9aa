import { checksumOfReads, decodeDocument, encodeDocument, FORMAT_VERSION, type StartDocument, startSchema } from "./format/documents.ts";
import type { SpriteKeys } from "./format/keys.ts";
import { MAX_DOCUMENT_BYTES, MAX_START_BLOCKS } from "./format/limits.ts";
import type { ObjectStore } from "./store/object-store.ts";

/** What a start read, and the next one will most likely read. */
export interface StartReads {
  /** in the order in which they were read */
  readonly blocks: readonly number[];
  /** as many of them, from the first on, were read before the sprite ran */
  readonly untilReady: number;
}

/**
 * What a sprite's last start read. A hint: one that is missing, damaged or of a newer version is none.
 *
 * @throws what the store throws
 */
export async function readStart(store: ObjectStore, keys: SpriteKeys): Promise<StartReads | undefined> {
  const object = await store.get(keys.start, { maxBytes: MAX_DOCUMENT_BYTES });
  return object === undefined ? undefined : decodeStart(keys.start, object.data);
}

/** Blocks beyond MAX_START_BLOCKS are left out. @throws what the store throws */
export async function writeStart(store: ObjectStore, keys: SpriteKeys, sprite: string, start: StartReads): Promise<void> {
  const reads = toRanges(start.blocks.slice(0, MAX_START_BLOCKS));
  const document: StartDocument = {
    format: "hob-start",
    version: FORMAT_VERSION,
    sprite,
    recordedAt: new Date().toISOString(),
    reads,
    untilReady: Math.min(start.untilReady, MAX_START_BLOCKS),
    checksum: checksumOfReads(reads),
  };
  await store.put(keys.start, encodeDocument(document));
}

/** For a fork, which starts much as its source does. It does without when that fails. */
export async function copyStart(store: ObjectStore, from: SpriteKeys, to: SpriteKeys, sprite: string): Promise<void> {
  try {
    const start = await readStart(store, from);
    if (start !== undefined) await writeStart(store, to, sprite, start);
  } catch {
    // What it costs is time at one start.
  }
}

function decodeStart(key: string, data: Buffer): StartReads | undefined {
  try {
    const { reads, untilReady } = decodeDocument(key, data, startSchema);
    return { blocks: reads.flatMap(([first, count]) => Array.from({ length: count }, (_, index) => first + index)), untilReady };
  } catch {
    return undefined;
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
