import { POOL_BLOCK_BYTES } from "@hob/protocol";
import { BLOCK_BYTES, type BlockRange } from "@hob/storage";
import type { ByteRange } from "../helper/index.ts";
import type { CheckpointRecord } from "../volume/ledger.ts";
import type { ChangedRange } from "../volume/thin-delta.ts";

/** What the bytes of a state follow from: its thin device, and what that reads from where it was never written. */
export type DeviceState = Pick<CheckpointRecord, "thin" | "origin">;

export interface ChangeSources {
  /** blocks of the pool that two thin devices do not share */
  changedBlocks: (from: number, to: number) => AsyncIterable<ChangedRange>;
  /** blocks that differ between two origins */
  originDifferences: (one: string | null, other: string | null) => AsyncIterable<BlockRange>;
}

/** More would cost more than reading does. */
const RANGES_MAX = 2 ** 18;

/**
 * Where the devices of two states may differ, in bytes, ascending and apart. A block that neither has written reads as its origin
 * does, so the differences of these count too. Nothing of the devices is read. Undefined: in more places than are worth knowing.
 */
export async function deviceChanges(
  sources: ChangeSources,
  before: DeviceState,
  after: DeviceState,
  signal?: AbortSignal,
): Promise<ByteRange[] | undefined> {
  const ranges: ByteRange[] = [];
  const add = (begin: number, length: number): boolean => ranges.push({ begin, length }) <= RANGES_MAX;
  if (before.thin !== after.thin) {
    for await (const { begin, length } of sources.changedBlocks(before.thin, after.thin)) {
      signal?.throwIfAborted();
      if (!add(begin * POOL_BLOCK_BYTES, length * POOL_BLOCK_BYTES)) return undefined;
    }
  }
  if (before.origin !== after.origin) {
    for await (const { first, count } of sources.originDifferences(before.origin, after.origin)) {
      signal?.throwIfAborted();
      if (!add(first * BLOCK_BYTES, count * BLOCK_BYTES)) return undefined;
    }
  }
  signal?.throwIfAborted();
  return joined(ranges);
}

function joined(ranges: ByteRange[]): ByteRange[] {
  const result: ByteRange[] = [];
  for (const { begin, length } of ranges.sort((one, other) => one.begin - other.begin)) {
    const last = result.at(-1);
    if (last === undefined || last.begin + last.length < begin) result.push({ begin, length });
    else result[result.length - 1] = { begin: last.begin, length: Math.max(last.length, begin + length - last.begin) };
  }
  return result;
}
