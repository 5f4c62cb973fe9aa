import { setTimeout as sleep } from "node:timers/promises";
import type { BlockReader, StartReads } from "@hob/storage";

/** Blocks fetched together: those that lie side by side come by one request, and the first are there early. */
const WINDOW = 16;
/** After the sprite runs: its first request gets the processor. */
const FIRST_PAUSE_MS = 500;
/** Blocks that are fetched of a volume whose last start is not known. */
const UNKNOWN_START_BLOCKS = 24;

export interface StartExpectation {
  /** undefined: it is not known */
  lastStart: () => Promise<StartReads | undefined>;
  /** the sprite runs */
  ready: Promise<void>;
  signal: AbortSignal;
}

/**
 * Fetches what a start is about to read, in the order in which the last one did. What was read when the sprite ran already
 * comes when it runs again: until then it would only be in the way. Of a volume whose last start is not known its first
 * blocks are fetched: there a file system has what every mount reads.
 *
 * @returns number of blocks
 */
export async function prefetchStart(reader: BlockReader, { lastStart, ready, signal }: StartExpectation): Promise<number> {
  // The way to each block begins at the root: that is asked for meanwhile.
  const [known] = await Promise.all([lastStart(), reader.map.lookup(0)]);
  const { blocks, untilReady } = known ?? (await firstBlocks(reader));
  const needed = blocks.slice(0, untilReady);
  // All pages side by side, and so are the windows.
  reader.map.lookupMany(needed).catch(() => {});
  await Promise.all(windows(needed).map((window) => reader.fetchAhead(window)));
  await ready;
  await fetchGently(reader, blocks.slice(untilReady), signal);
  return blocks.length;
}

/** Half of the time at most: whoever has waited for the sprite uses it now. */
async function fetchGently(reader: BlockReader, blocks: readonly number[], signal: AbortSignal): Promise<void> {
  let pauseMs = FIRST_PAUSE_MS;
  for (const window of windows(blocks)) {
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {});
    if (signal.aborted) return;
    const begin = performance.now();
    await reader.fetchAhead(window);
    pauseMs = performance.now() - begin;
  }
}

const windows = (blocks: readonly number[]): number[][] =>
  Array.from({ length: Math.ceil(blocks.length / WINDOW) }, (_, index) => blocks.slice(index * WINDOW, (index + 1) * WINDOW));

async function firstBlocks(reader: BlockReader): Promise<StartReads> {
  const blocks: number[] = [];
  for await (const { block } of reader.map.walk()) {
    blocks.push(block);
    if (blocks.length >= UNKNOWN_START_BLOCKS) break;
  }
  return { blocks, untilReady: blocks.length };
}
