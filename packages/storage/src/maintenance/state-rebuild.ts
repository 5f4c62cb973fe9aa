import { damaged } from "../format/damage.ts";
import { BLOCK_BYTES, MAP_FANOUT, MAP_LEVELS } from "../format/limits.ts";
import { blocksOfLevel, type ChildRef, type InnerPage, storedBlocks } from "../format/page.ts";
import { ChunkMap } from "../map/chunk-map.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import type { Ownership } from "../ownership/ownership.ts";
import { RecentChunks } from "../upload/recent-chunks.ts";
import type { BlockChange } from "../upload/types.ts";
import { Uploader } from "../upload/uploader.ts";
import { Ranges } from "../util/ranges.ts";
import type { Damage } from "./fsck.ts";
import { type LocalState, onlyDamage, type RepairOptions } from "./repair-source.ts";
import { Neighbours } from "./repair-states.ts";

/** Chunks remembered over one repair: what was sent for one state is found again for the next. */
const RECENT_CHUNKS = 65_536;

/** A page, by what it covers. */
export interface PlacedPage {
  readonly level: number;
  /** first block */
  readonly first: number;
  /** blocks with a chunk on and below it; undefined: not known */
  readonly blocks: number | undefined;
}

/**
 * Makes parts of a state's map anew from what a machine has of the state: the blocks that were written there, over the map
 * that it reads the others from. A chunk that another state has in the same place is not sent again.
 */
export class StateRebuild {
  readonly pages: PageStore;
  readonly uploader: Uploader;
  readonly #recent = new RecentChunks(RECENT_CHUNKS);
  readonly #ownership: Ownership;
  readonly #neighbours: Neighbours;
  /** blocks whose chunks are not to be used, by checkpoint */
  readonly #lost: ReadonlyMap<string | null, Ranges>;

  readonly #call: { signal?: AbortSignal };

  constructor({ store, org, ownership, signal }: RepairOptions, found: readonly Pick<Damage, "checkpoint" | "blocks">[]) {
    this.pages = new PageStore({ store, org });
    this.uploader = new Uploader({ store, org, pages: this.pages, recent: this.#recent, trustBase: false });
    this.#call = signal === undefined ? {} : { signal };
    this.#ownership = ownership;
    this.#neighbours = new Neighbours(ownership);
    const byState = Map.groupBy(found, (one) => one.checkpoint);
    this.#lost = new Map([...byState].map(([checkpoint, all]) => [checkpoint, new Ranges(all.flatMap(({ blocks }) => blocks))]));
  }

  /**
   * The page with everything below it, saved.
   *
   * @param base `local.origin`, or a map of the same content
   * @returns undefined: the machine does not have all of it, or something else; null: there is nothing but zeros
   */
  async page(place: PlacedPage, checkpoint: string | null, local: LocalState, base: MapRoot): Promise<ChildRef | null | undefined> {
    const volumeBlocks = this.#ownership.head.volumeBytes / BLOCK_BYTES;
    const count = Math.min(blocksOfLevel(place.level), volumeBlocks - place.first);
    if (count <= 0) return undefined;
    const written = new Ranges(local.written).within(place.first, count);
    const from = written.size === count ? null : base;
    if (!(await this.#isReadable(from, place, written))) return undefined;
    const uploaded = await this.uploader.upload(from, this.#changes(checkpoint, local, written), this.#call).catch(onlyDamage);
    if (uploaded === undefined) return undefined;
    const made = await this.#at(uploaded.root, place);
    if (place.blocks !== undefined && place.blocks !== (made?.blocks ?? 0)) return undefined;
    return made ?? null;
  }

  /** Whether the map tells all that is needed of it. Nothing has been sent before that is known. */
  async #isReadable(root: MapRoot, place: PlacedPage, written: Ranges): Promise<boolean> {
    const map = this.#map(root);
    try {
      await this.#at(root, place);
      let last = -1;
      for (const block of written.blocks()) {
        const leaf = Math.floor(block / MAP_FANOUT);
        if (leaf !== last) await map.lookup(block);
        last = leaf;
      }
      return true;
    } catch (error) {
      onlyDamage(error);
      return false;
    }
  }

  /** The page of a map at this place, which was read; undefined: zeros. @throws HobError `data_damaged` */
  async #at(root: MapRoot, { level, first }: PlacedPage): Promise<ChildRef | undefined> {
    if (root === null) return undefined;
    let page = await this.pages.load(root, MAP_LEVELS - 1);
    let ref: ChildRef = { page: root, blocks: storedBlocks(page) };
    for (let at = MAP_LEVELS - 1; at > level; at--) {
      const child = (page as InnerPage).entries.get(Math.floor(first / blocksOfLevel(at - 1)) % MAP_FANOUT);
      if (child === undefined) return undefined;
      page = await this.pages.load(child.page, at - 1, child.blocks);
      ref = child;
    }
    return ref;
  }

  async *#changes(checkpoint: string | null, local: LocalState, written: Ranges): AsyncGenerator<BlockChange> {
    const near = (await this.#neighbours.of(checkpoint)).map((one) => ({ map: this.#map(one.root), lost: this.#lost.get(one.checkpoint) }));
    for (const block of written.blocks()) {
      for (const { map, lost } of near) {
        const ref = lost?.has(block) ? undefined : await map.lookup(block).catch(onlyDamage);
        if (ref !== undefined) this.#recent.add(ref, Date.now());
      }
      const data = await local.read(block);
      if (data === undefined) throw damaged(`block ${block}`, "cannot be read on this machine");
      yield { block, data };
    }
  }

  #map(root: MapRoot): ChunkMap {
    return new ChunkMap({ store: this.pages.store, org: this.pages.keys.org, root, pages: this.pages });
  }
}
