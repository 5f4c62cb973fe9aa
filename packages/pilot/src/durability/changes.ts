import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, type BlockChange, type BlockRange } from "@hob/storage";

/** Blocks that are read at once. */
const READ_BLOCKS = 16;

/** A run of blocks that may differ from what the store has. */
export interface ChangedBlocks extends BlockRange {
  /** nothing is stored for them, and they read as zeros: they need not be read */
  readonly isHole: boolean;
}

export interface ReadOptions {
  /** waited for before each read */
  mayRead: () => Promise<void>;
}

/** The blocks of the ranges as a device has them. The last block of a volume may be short of bytes: the rest are zeros. */
export async function* readChanges(
  device: string,
  ranges: AsyncIterable<ChangedBlocks>,
  { mayRead }: ReadOptions,
): AsyncGenerator<BlockChange, void, undefined> {
  const file = await open(device, "r");
  try {
    for await (const { first, count, isHole } of ranges) {
      if (isHole) yield* holes(first, count);
      else
        for (let at = first; at < first + count; at += READ_BLOCKS) {
          await mayRead();
          yield* readBlocks(file, at, Math.min(READ_BLOCKS, first + count - at));
        }
    }
  } finally {
    await file.close();
  }
}

function* holes(first: number, count: number): Generator<BlockChange, void, undefined> {
  for (let block = first; block < first + count; block++) yield { block, data: undefined };
}

async function* readBlocks(file: FileHandle, first: number, count: number): AsyncGenerator<BlockChange, void, undefined> {
  // A buffer of its own: the receiver keeps views of it until it is done.
  const data = Buffer.alloc(count * BLOCK_BYTES);
  for (let length = 0; length < data.length; ) {
    const { bytesRead } = await file.read(data, length, data.length - length, first * BLOCK_BYTES + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  for (let i = 0; i < count; i++) yield { block: first + i, data: data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES) };
}
