import type { BlockReader } from "@hob/storage";

/** Blocks fetched together: those that lie side by side come by one request, and the first are there early. */
const WINDOW = 32;
/** Windows under way: one is decompressed while the next arrives. */
const LANES = 2;
/** Blocks that are fetched of a volume whose last start is not known. */
const UNKNOWN_START_BLOCKS = 96;

/**
 * Fetches what a start is about to read, in the order in which the last one did. Of a volume whose last start is not known
 * its first blocks: there a file system has what every mount reads.
 *
 * @returns number of blocks
 */
export async function prefetchStart(
  reader: BlockReader,
  lastStart: () => Promise<readonly number[]>,
  signal: AbortSignal,
): Promise<number> {
  // The way to each block begins at the root: that is asked for meanwhile.
  const [known] = await Promise.all([lastStart(), reader.map.lookup(0)]);
  const blocks = known.length > 0 ? known : await firstBlocks(reader);
  // All pages side by side; the windows then find theirs on the way.
  reader.map.lookupMany(blocks).catch(() => {});
  const lane = async (begin: number): Promise<void> => {
    for (let at = begin; at < blocks.length && !signal.aborted; at += LANES * WINDOW) {
      await reader.fetchAhead(blocks.slice(at, at + WINDOW));
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, index) => lane(index * WINDOW)));
  return blocks.length;
}

async function firstBlocks(reader: BlockReader): Promise<number[]> {
  const blocks: number[] = [];
  for await (const { block } of reader.map.walk()) {
    blocks.push(block);
    if (blocks.length >= UNKNOWN_START_BLOCKS) break;
  }
  return blocks;
}
