import { MAP_LEVELS } from "../format/limits.ts";
import { blocksOfLevel, type ChildRef, type InnerPage, type LeafPage, type Page } from "../format/page.ts";
import { ahead } from "../util/concurrency.ts";
import type { BlockRange, ChunkRef, MapRoot } from "./chunk-ref.ts";
import type { PageStore } from "./page-store.ts";

/** Pages loaded ahead of the one that is looked at. */
const AHEAD = 8;

export interface MapEntry {
  block: number;
  ref: ChunkRef;
}

/** Every block that has a chunk, in ascending order. */
export async function* walkMap(pages: PageStore, root: MapRoot): AsyncGenerator<MapEntry> {
  for await (const { before, after, block } of diffMaps(pages, null, root)) {
    if (before === null && after !== null) yield { block, ref: after };
  }
}

export interface MapDifference {
  block: number;
  before: ChunkRef | null;
  after: ChunkRef | null;
}

/**
 * The blocks whose content differs between two maps, in ascending order. Pages that both have are not read, so the time
 * grows with the difference. A chunk that only lies in another pack is no difference.
 */
export async function* diffMaps(pages: PageStore, before: MapRoot, after: MapRoot): AsyncGenerator<MapDifference> {
  const child = (root: MapRoot): ChildRef | undefined => (root === null ? undefined : { page: root, blocks: -1 });
  if (before !== after) yield* diffPages(await loadPair(pages, MAP_LEVELS - 1, 0, child(before), child(after)), pages);
}

interface PagePair {
  level: number;
  /** number of the first block that the pages cover */
  first: number;
  before: Page | undefined;
  after: Page | undefined;
}

async function loadPair(
  pages: PageStore,
  level: number,
  first: number,
  before: ChildRef | undefined,
  after: ChildRef | undefined,
): Promise<PagePair> {
  const load = (ref: ChildRef | undefined): Promise<Page> | undefined =>
    ref === undefined ? undefined : pages.load(ref.page, level, ref.blocks < 0 ? undefined : ref.blocks);
  const [pageBefore, pageAfter] = await Promise.all([load(before), load(after)]);
  return { level, first, before: pageBefore, after: pageAfter };
}

async function* diffPages(pair: PagePair, pages: PageStore): AsyncGenerator<MapDifference> {
  if (pair.level === 0) {
    yield* diffLeaves(pair.first, pair.before as LeafPage | undefined, pair.after as LeafPage | undefined);
    return;
  }
  const before = (pair.before as InnerPage | undefined)?.entries ?? new Map<number, ChildRef>();
  const after = (pair.after as InnerPage | undefined)?.entries ?? new Map<number, ChildRef>();
  const level = pair.level - 1;
  const changed = sortedKeys(before, after).filter((index) => before.get(index)?.page !== after.get(index)?.page);
  const load = (index: number): Promise<PagePair> =>
    loadPair(pages, level, pair.first + index * blocksOfLevel(level), before.get(index), after.get(index));
  for await (const below of ahead(changed, level === 0 ? AHEAD : 1, load)) yield* diffPages(below, pages);
}

function* diffLeaves(first: number, before: LeafPage | undefined, after: LeafPage | undefined): Generator<MapDifference> {
  const old = before?.entries ?? new Map<number, ChunkRef>();
  const now = after?.entries ?? new Map<number, ChunkRef>();
  for (const index of sortedKeys(old, now)) {
    const a = old.get(index) ?? null;
    const b = now.get(index) ?? null;
    if (a?.hash !== b?.hash) yield { block: first + index, before: a, after: b };
  }
}

const sortedKeys = (a: ReadonlyMap<number, unknown>, b: ReadonlyMap<number, unknown>): number[] =>
  [...new Set([...a.keys(), ...b.keys()])].sort((x, y) => x - y);

/** Joins ascending block numbers to ranges. */
export async function* toRanges(blocks: AsyncIterable<{ block: number }>): AsyncGenerator<BlockRange> {
  let range: { first: number; count: number } | undefined;
  for await (const { block } of blocks) {
    if (range !== undefined && block === range.first + range.count) {
      range.count++;
      continue;
    }
    if (range !== undefined) yield range;
    range = { first: block, count: 1 };
  }
  if (range !== undefined) yield range;
}

export interface PageVisitor {
  /** Called before a page is read. `false` leaves out the page and what is below it: it was seen before. */
  enter(name: string, level: number, firstBlock: number): boolean;
  leaf?(page: LeafPage, name: string, firstBlock: number): void | Promise<void>;
  /**
   * A page that is missing or damaged; without it the walk ends with the error.
   * @param blocks with a chunk on and below it, as the page above says; undefined: it is the root
   */
  broken?(error: unknown, name: string, level: number, firstBlock: number, blocks: number | undefined): void;
}

/** Visits the pages of a map from the root down. */
export async function walkPages(pages: PageStore, root: MapRoot, visitor: PageVisitor): Promise<void> {
  if (root !== null) await visit(pages, MAP_LEVELS - 1, [[0, { page: root, blocks: -1 }]], visitor);
}

type Placed = [firstBlock: number, ref: ChildRef];

async function visit(pages: PageStore, level: number, refs: readonly Placed[], visitor: PageVisitor): Promise<void> {
  const wanted = refs.filter(([first, ref]) => visitor.enter(ref.page, level, first));
  const load = async ([first, ref]: Placed): Promise<{ first: number; name: string; page: Page } | undefined> => {
    try {
      return { first, name: ref.page, page: await pages.load(ref.page, level, ref.blocks < 0 ? undefined : ref.blocks) };
    } catch (error) {
      if (visitor.broken === undefined) throw error;
      visitor.broken(error, ref.page, level, first, ref.blocks < 0 ? undefined : ref.blocks);
      return undefined;
    }
  };
  for await (const loaded of ahead(wanted, level === 0 ? AHEAD : 1, load)) {
    if (loaded === undefined) continue;
    const { first, name, page } = loaded;
    if (page.level === 0) await visitor.leaf?.(page, name, first);
    else {
      const span = blocksOfLevel(level - 1);
      const below = [...page.entries].map(([index, ref]): Placed => [first + index * span, ref]);
      await visit(pages, level - 1, below, visitor);
    }
  }
}
