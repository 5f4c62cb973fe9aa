import { MAP_FANOUT, MAP_LEVELS } from "../format/limits.ts";
import { blocksOfLevel, type ChildRef, type InnerPage, type LeafPage, type Page, storedBlocks } from "../format/page.ts";
import { mapLimit } from "../util/concurrency.ts";
import type { ChunkRef, MapChange, MapRoot } from "./chunk-ref.ts";
import type { PageStore } from "./page-store.ts";

export interface MapUpdate {
  root: MapRoot;
  /** blocks with a chunk in the new map */
  storedBlocks: number;
  /** pages written */
  pages: number;
  bytesWritten: number;
}

/** Pages loaded and written at the same time. */
const CONCURRENT_PAGES = 8;

/**
 * The map `root` with `changes` applied; of several changes of one block the last counts. Writes the pages that differ,
 * children first, and nothing when nothing differs.
 */
export async function updateMap(pages: PageStore, root: MapRoot, changes: Iterable<MapChange>, signal?: AbortSignal): Promise<MapUpdate> {
  const byBlock = new Map<number, ChunkRef | null>();
  for (const { block, ref } of changes) byBlock.set(block, ref);
  const update = new Update(pages, signal);
  const base = root === null ? undefined : await pages.load(root, MAP_LEVELS - 1);
  const before = root === null || base === undefined ? undefined : { page: root, blocks: storedBlocks(base) };
  const sorted = [...byBlock].sort(([a], [b]) => a - b);
  const after = sorted.length === 0 ? before : await update.apply(MAP_LEVELS - 1, before, sorted);
  return {
    root: after?.page ?? null,
    storedBlocks: after?.blocks ?? 0,
    pages: update.pagesWritten,
    bytesWritten: update.bytesWritten,
  };
}

type BlockRef = [block: number, ref: ChunkRef | null];

class Update {
  pagesWritten = 0;
  bytesWritten = 0;
  readonly #pages: PageStore;
  readonly #signal: AbortSignal | undefined;

  constructor(pages: PageStore, signal: AbortSignal | undefined) {
    this.#pages = pages;
    this.#signal = signal;
  }

  /** The page that takes the place of `before`; undefined when nothing is left of it. */
  async apply(level: number, before: ChildRef | undefined, changes: readonly BlockRef[]): Promise<ChildRef | undefined> {
    const page = before === undefined ? undefined : await this.#pages.load(before.page, level, before.blocks);
    if (level === 0) return this.#replace(before, changeLeaf(page as LeafPage | undefined, changes));
    return this.#replace(before, await this.#changeInner(level as 1 | 2, page as InnerPage | undefined, changes));
  }

  async #changeInner(level: 1 | 2, page: InnerPage | undefined, changes: readonly BlockRef[]): Promise<InnerPage | undefined> {
    const span = blocksOfLevel(level - 1);
    const groups = [...Map.groupBy(changes, ([block]) => Math.floor(block / span) % MAP_FANOUT)];
    const before = page?.entries ?? new Map<number, ChildRef>();
    // Only the leaves side by side: what is in memory stays bounded.
    const children = await mapLimit(groups, level === 1 ? CONCURRENT_PAGES : 1, ([index, group]) =>
      this.apply(level - 1, before.get(index), group),
    );
    const entries = new Map(before);
    let changed = false;
    groups.forEach(([index], number) => {
      const child = children[number];
      if (child?.page === before.get(index)?.page) return;
      changed = true;
      if (child === undefined) entries.delete(index);
      else entries.set(index, child);
    });
    return changed ? { level, entries } : undefined;
  }

  /** @param page the changed page; undefined when nothing has changed */
  async #replace(before: ChildRef | undefined, page: Page | undefined): Promise<ChildRef | undefined> {
    if (page === undefined) return before;
    if (page.entries.size === 0) return undefined;
    const { name, sizeBytes } = await this.#pages.save(page, this.#signal === undefined ? {} : { signal: this.#signal });
    this.pagesWritten++;
    this.bytesWritten += sizeBytes;
    return { page: name, blocks: storedBlocks(page) };
  }
}

function changeLeaf(page: LeafPage | undefined, changes: readonly BlockRef[]): LeafPage | undefined {
  const entries = new Map(page?.entries);
  let changed = false;
  for (const [block, ref] of changes) {
    const index = block % MAP_FANOUT;
    const present = entries.get(index);
    if (ref === null ? present === undefined : present !== undefined && sameRef(present, ref)) continue;
    changed = true;
    if (ref === null) entries.delete(index);
    else entries.set(index, ref);
  }
  return changed ? { level: 0, entries } : undefined;
}

const sameRef = (a: ChunkRef, b: ChunkRef): boolean => a.hash === b.hash && a.pack === b.pack && a.offset === b.offset;
