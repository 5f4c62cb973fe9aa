import { sha256 } from "../../src/format/hash.ts";
import { BLOCK_BYTES } from "../../src/format/limits.ts";
import type { ChunkRef } from "../../src/map/chunk-ref.ts";
import type { BlockReader } from "../../src/read/block-reader.ts";
import type { BlockChange } from "../../src/upload/types.ts";

/** A block whose content follows from a number: compressible for even ones, hardly for odd ones; 0 is zeros. */
export function blockOf(seed: number): Buffer {
  const data = Buffer.alloc(BLOCK_BYTES);
  if (seed === 0) return data;
  if (seed % 2 === 0) return data.fill(`block ${seed};`);
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let at = 0; at < BLOCK_BYTES; at += 4) {
    // xorshift32, Marsaglia 2003
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    data.writeInt32LE(state | 0, at);
  }
  return data;
}

/** A volume as a plain map of block number to seed; zero blocks are absent. */
export type Model = Map<number, number>;

export function applyTo(model: Model, changes: readonly (readonly [block: number, seed: number])[]): Model {
  const next = new Map(model);
  for (const [block, seed] of changes) {
    if (seed === 0) next.delete(block);
    else next.set(block, seed);
  }
  return next;
}

export async function* changesOf(changes: readonly (readonly [block: number, seed: number])[]): AsyncGenerator<BlockChange> {
  for (const [block, seed] of changes) yield { block, data: seed === 0 && block % 2 === 0 ? undefined : blockOf(seed) };
}

/** Blocks in which a reader and a model differ. */
export async function differences(reader: BlockReader, model: Model, blocks: Iterable<number>): Promise<number[]> {
  const different: number[] = [];
  for (const block of blocks) if (!(await reader.read(block)).equals(blockOf(model.get(block) ?? 0))) different.push(block);
  return different;
}

/** A reference that no pack stands behind. */
export const fakeRef = (seed: number): ChunkRef => ({
  hash: sha256(Buffer.from(`chunk ${seed}`)),
  pack: sha256(Buffer.from(`pack ${seed % 7}`)),
  offset: 24 + seed,
  storedBytes: 100 + (seed % 1000),
  encoding: 1,
});
