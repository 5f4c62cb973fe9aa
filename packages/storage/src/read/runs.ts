import type { ChunkRef } from "../map/chunk-ref.ts";

/** Bytes that are read and thrown away rather than made a second request for: what comes in the time of one round trip. */
const MAX_GAP_BYTES = 64 * 1024;

/** Longest answer of one request. */
const MAX_RUN_BYTES = 4 * 1024 * 1024;

/** Chunks of one pack that are read by one ranged GET. */
export interface ChunkRun {
  pack: string;
  offset: number;
  length: number;
  refs: ChunkRef[];
}

/** Joins chunks that lie close to each other in the same pack. The run with the first of the chunks comes first, and so on. */
export function planRuns(refs: readonly ChunkRef[]): ChunkRun[] {
  const places = new Map(refs.map((ref, index) => [ref, index]));
  const placeOf = (run: ChunkRun): number => Math.min(...run.refs.map((ref) => places.get(ref) ?? 0));
  const sorted = [...refs].sort((a, b) => (a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1));
  const runs: ChunkRun[] = [];
  for (const ref of sorted) {
    const run = runs.at(-1);
    const end = ref.offset + ref.storedBytes;
    const joins = run?.pack === ref.pack && ref.offset - (run.offset + run.length) <= MAX_GAP_BYTES && end - run.offset <= MAX_RUN_BYTES;
    if (run !== undefined && joins) {
      run.refs.push(ref);
      run.length = Math.max(run.length, end - run.offset);
    } else runs.push({ pack: ref.pack, offset: ref.offset, length: ref.storedBytes, refs: [ref] });
  }
  return runs.sort((a, b) => placeOf(a) - placeOf(b));
}
