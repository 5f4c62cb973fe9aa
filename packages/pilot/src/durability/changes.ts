import { BLOCK_BYTES, type BlockChange, type BlockRange } from "@hob/storage";
import { DeviceReader } from "./device-reader.ts";

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
  await using reader = await DeviceReader.open(device);
  for await (const { first, count, isHole } of ranges) {
    if (isHole) yield* holes(first, count);
    else
      for (let at = first; at < first + count; ) {
        await mayRead();
        const data = await reader.read(at, first + count - at, volumeBytes);
        for (let offset = 0; offset < data.length; offset += BLOCK_BYTES)
          yield { block: at++, data: data.subarray(offset, offset + BLOCK_BYTES) };
      }
  }
}

function* holes(first: number, count: number): Generator<BlockChange, void, undefined> {
  for (let block = first; block < first + count; block++) yield { block, data: undefined };
}
