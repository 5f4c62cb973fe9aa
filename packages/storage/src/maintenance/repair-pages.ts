import { sha256 } from "../format/hash.ts";
import { MAP_LEVELS } from "../format/limits.ts";
import { blocksOfLevel, type ChildRef, storedBlocks } from "../format/page.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import { walkPages } from "../map/traverse.ts";
import { onlyDamage, type RepairOptions } from "./repair-source.ts";
import type { DamagedState } from "./repair-states.ts";
import type { PlacedPage, StateRebuild } from "./state-rebuild.ts";

interface LostPage extends PlacedPage {
  readonly name: string;
  /** those whose map has it */
  readonly states: DamagedState[];
}

/** Lost pages of damaged states: put back under their names where somebody has them, else made anew. */
export class PageRepair {
  repaired = 0;
  /** names: a store that does not give back what it took would get a page again and again */
  readonly #wasPut = new Set<string>();
  readonly #options: RepairOptions;
  readonly #rebuild: StateRebuild;
  /** what takes the place of lost pages, by their names */
  readonly #made = new Map<string, ChildRef>();
  /** where the pages above them are */
  readonly #above = new Set<string>();
  readonly #rewritten = new Map<string, ChildRef>();

  constructor(options: RepairOptions, rebuild: StateRebuild) {
    this.#options = options;
    this.#rebuild = rebuild;
  }

  /** @returns by state, the pages that were lost: what is damaged below them is not known, also where they are back */
  async run(states: readonly DamagedState[]): Promise<ReadonlyMap<DamagedState, readonly PlacedPage[]>> {
    const places = new Map<DamagedState, PlacedPage[]>();
    const note = (lost: readonly LostPage[]): void => {
      for (const page of lost) for (const state of page.states) places.set(state, [...(places.get(state) ?? []), page]);
    };
    let lost = await this.#find(states);
    note(lost);
    // A page that is back may show others below it that are lost too.
    while (await this.#putBack(lost)) {
      lost = await this.#find(states);
      note(lost);
    }
    for (const page of lost) await this.#make(page);
    return places;
  }

  /** The map with the pages that were made in place of those that were lost. */
  async rewrite(root: MapRoot): Promise<MapRoot> {
    if (root === null || this.#made.size === 0) return root;
    return (await this.#rewrite(MAP_LEVELS - 1, 0, { page: root, blocks: -1 })).page;
  }

  async #find(states: readonly DamagedState[]): Promise<LostPage[]> {
    const lost = new Map<string, LostPage>();
    for (const state of states) {
      this.#options.signal?.throwIfAborted();
      await walkPages(this.#rebuild.pages, state.root, {
        enter: (name, level, first) => {
          const known = lost.get(name);
          known?.states.push(state);
          return known === undefined && state.ranges.has(first, blocksOfLevel(level));
        },
        broken: (error, name, level, first, blocks = state.storedBlocks) => {
          onlyDamage(error);
          lost.set(name, { name, level, first, blocks, states: [state] });
        },
      });
    }
    return [...lost.values()];
  }

  async #putBack(lost: readonly LostPage[]): Promise<boolean> {
    const { source, store, signal } = this.#options;
    let isAny = false;
    for (const { name } of lost) {
      signal?.throwIfAborted();
      const bytes = this.#wasPut.has(name) ? undefined : await source.page?.(name);
      if (bytes === undefined || sha256(bytes) !== name) continue;
      const key = this.#rebuild.pages.keys.page(name);
      const present = await store.get(key, { maxBytes: bytes.length }).catch(() => undefined);
      // Then it is right, and what is wrong is what the page above says of it.
      if (present?.data.equals(bytes) === true) continue;
      await store.put(key, bytes, signal === undefined ? {} : { signal });
      this.#wasPut.add(name);
      this.repaired++;
      isAny = true;
    }
    return isAny;
  }

  /** States that have the page have the same content there: the first of which this machine has all makes it for the others. */
  async #make(page: LostPage): Promise<void> {
    for (const { checkpoint, root } of page.states) {
      this.#options.signal?.throwIfAborted();
      const local = await this.#options.source.state?.(checkpoint, root);
      if (local === undefined) continue;
      const ref = await this.#rebuild.page(page, checkpoint, local, local.origin);
      if (ref === undefined || ref === null) continue;
      this.#made.set(page.name, ref);
      for (let level = page.level + 1; level < MAP_LEVELS; level++) this.#above.add(placeOf(level, page.first));
      this.repaired++;
      return;
    }
  }

  async #rewrite(level: number, first: number, ref: ChildRef): Promise<ChildRef> {
    const known = this.#made.get(ref.page) ?? this.#rewritten.get(ref.page);
    if (known !== undefined) return known;
    const rewritten = this.#above.has(placeOf(level, first)) ? await this.#rewriteBelow(level, first, ref) : ref;
    this.#rewritten.set(ref.page, rewritten);
    return rewritten;
  }

  async #rewriteBelow(level: number, first: number, ref: ChildRef): Promise<ChildRef> {
    const page = await this.#rebuild.pages.load(ref.page, level, ref.blocks < 0 ? undefined : ref.blocks).catch(onlyDamage);
    if (page === undefined || page.level === 0) return ref;
    const entries = new Map(page.entries);
    const span = blocksOfLevel(level - 1);
    let isChanged = false;
    for (const [index, child] of page.entries) {
      const next = await this.#rewrite(level - 1, first + index * span, child);
      if (next.page === child.page) continue;
      entries.set(index, next);
      isChanged = true;
    }
    if (!isChanged) return ref;
    const { name } = await this.#rebuild.pages.save({ level: page.level, entries });
    return { page: name, blocks: storedBlocks({ level: page.level, entries }) };
  }
}

const placeOf = (level: number, block: number): string => `${level}:${Math.floor(block / blocksOfLevel(level))}`;
