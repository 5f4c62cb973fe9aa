import { HobError } from "@hob/protocol";
import { MAP_FANOUT, MAP_LEVELS, MAX_BLOCKS } from "../format/limits.ts";
import { blocksOfLevel, type InnerPage, type LeafPage, storedBlocks } from "../format/page.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { mapLimit } from "../util/concurrency.ts";
import type { BlockRange, ChunkRef, MapChange, MapRoot } from "./chunk-ref.ts";
import { PageStore } from "./page-store.ts";
import { diffMaps, type MapEntry, toRanges, walkMap } from "./traverse.ts";
import { type MapUpdate, updateMap } from "./update.ts";

/** Pages of one lookup that are loaded at the same time. */
const CONCURRENT_PAGES = 8;

export interface ChunkMapOptions {
  store: ObjectStore;
  org: string;
  /** undefined and null: the empty map */
  root?: MapRoot | undefined;
  /** shared between maps of one organization; made when missing */
  pages?: PageStore;
}

/**
 * The map of one state of a volume: which chunk each block has. Immutable; `update` gives another map.
 *
 * Everything that reads throws HobError `data_damaged` for pages that are missing or wrong, and what the store throws.
 */
export class ChunkMap {
  readonly root: MapRoot;
  readonly pages: PageStore;

  /** Reads nothing yet. */
  constructor(options: ChunkMapOptions) {
    this.root = options.root ?? null;
    this.pages = options.pages ?? new PageStore({ store: options.store, org: options.org });
  }

  /** Number of blocks with a chunk. Reads one page. */
  async storedBlocks(): Promise<number> {
    return this.root === null ? 0 : storedBlocks(await this.pages.load(this.root, MAP_LEVELS - 1));
  }

  /** The chunk of a block; undefined when it is zeros. */
  async lookup(block: number): Promise<ChunkRef | undefined> {
    checkBlocks(block, 1);
    return (await this.#leaf(block))?.entries.get(block % MAP_FANOUT);
  }

  /** The chunks of `count` blocks from `first` on. */
  async lookupRange(first: number, count: number): Promise<(ChunkRef | undefined)[]> {
    checkBlocks(first, count);
    return await this.lookupMany(Array.from({ length: count }, (_, index) => first + index));
  }

  /** The chunks of these blocks, in their order. Pages that lie side by side are asked for at the same time. */
  async lookupMany(blocks: readonly number[]): Promise<(ChunkRef | undefined)[]> {
    for (const block of blocks) checkBlocks(block, 1);
    const numbers = [...new Set(blocks.map(leafOf))];
    const leaves = await mapLimit(numbers, CONCURRENT_PAGES, (number) => this.#leaf(number * MAP_FANOUT));
    const byNumber = new Map(numbers.map((number, index) => [number, leaves[index]]));
    return blocks.map((block) => byNumber.get(leafOf(block))?.entries.get(block % MAP_FANOUT));
  }

  /** The map with these changes; of several for one block the last counts. Writes the pages that are new. */
  async update(changes: Iterable<MapChange>, signal?: AbortSignal): Promise<MapUpdate & { map: ChunkMap }> {
    const list = [...changes];
    for (const { block } of list) checkBlocks(block, 1);
    const update = await updateMap(this.pages, this.root, list, signal);
    return { ...update, map: this.at(update.root) };
  }

  /** Another map of the same organization, with the same cache. */
  at(root: MapRoot): ChunkMap {
    return new ChunkMap({ store: this.pages.store, org: this.pages.keys.org, root, pages: this.pages });
  }

  /** Ranges of blocks whose content differs from this map to the one at `root`, ascending. */
  diff(root: MapRoot): AsyncGenerator<BlockRange> {
    return toRanges(diffMaps(this.pages, this.root, root));
  }

  /** Every block with a chunk, ascending. */
  walk(): AsyncGenerator<MapEntry> {
    return walkMap(this.pages, this.root);
  }

  async #leaf(block: number): Promise<LeafPage | undefined> {
    if (this.root === null) return undefined;
    let page = (await this.pages.load(this.root, MAP_LEVELS - 1)) as InnerPage | LeafPage;
    for (let level = MAP_LEVELS - 1; level > 0; level--) {
      const child = (page as InnerPage).entries.get(Math.floor(block / blocksOfLevel(level - 1)) % MAP_FANOUT);
      if (child === undefined) return undefined;
      page = await this.pages.load(child.page, level - 1, child.blocks);
    }
    return page as LeafPage;
  }
}

const leafOf = (block: number): number => Math.floor(block / MAP_FANOUT);

/** @throws HobError `invalid_request` */
export function checkBlocks(first: number, count: number): void {
  const fits = Number.isSafeInteger(first) && Number.isSafeInteger(count) && first >= 0 && count >= 1 && first + count <= MAX_BLOCKS;
  if (!fits)
    throw new HobError("invalid_request", `blocks ${first} to ${first + count - 1} are outside of a volume of ${MAX_BLOCKS} blocks`);
}
