import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, type BlockChange, type BlockRange } from "@hob/storage";
import { readExactly } from "../read-exactly.ts";

/** Blocks that are read at once. */
const READ_BLOCKS = 16;

/** A run of blocks that may differ from what the store has. */
export interface ChangedBlocks extends BlockRange {
  /** nothing is stored for them, and they read as zeros: they need not be read */
  readonly isHole: boolean;
}

export interface ReadOptions {
  /** of the volume: its last block may be short of bytes, and those are zeros to the store */
  volumeBytes: number;
  /** waited for before each read */
  mayRead: () => Promise<void>;
}

/** The blocks of the ranges as a device has them. @throws HobError `volume_unusable` for a device that ends before its volume */
export async function* readChanges(
  device: string,
  ranges: AsyncIterable<ChangedBlocks>,
  { volumeBytes, mayRead }: ReadOptions,
): AsyncGenerator<BlockChange, void, undefined> {
  const file = await open(device, "r");
  try {
    for await (const { first, count, isHole } of ranges) {
      if (isHole) yield* holes(first, count);
      else
        for (let at = first; at < first + count; at += READ_BLOCKS) {
          await mayRead();
          yield* readBlocks(file, at, Math.min(READ_BLOCKS, first + count - at), volumeBytes);
        }
    }
  } finally {
    await file.close();
  }
}

function* holes(first: number, count: number): Generator<BlockChange, void, undefined> {
  for (let block = first; block < first + count; block++) yield { block, data: undefined };
}

async function* readBlocks(
  file: FileHandle,
  first: number,
  count: number,
  volumeBytes: number,
): AsyncGenerator<BlockChange, void, undefined> {
  const offset = first * BLOCK_BYTES;
  const wanted = count * BLOCK_BYTES;
  // A buffer of its own: the receiver keeps views of it until it is done.
  const there = await readExactly(file, offset, Math.min(wanted, volumeBytes - offset));
  const data = there.length === wanted ? there : Buffer.concat([there], wanted);
  for (let i = 0; i < count; i++) yield { block: first + i, data: data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES) };
}
