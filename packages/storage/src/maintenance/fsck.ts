import { HobError } from "@hob/protocol";
import type { HeadDocument } from "../format/documents.ts";
import { OrgKeys } from "../format/keys.ts";
import { blocksOfLevel, type LeafPage } from "../format/page.ts";
import { listSprites, readCheckpoint, readHead } from "../heads.ts";
import type { BlockRange, MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import { walkPages } from "../map/traverse.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { PackCheck } from "./pack-check.ts";

export interface FsckOptions {
  store: ObjectStore;
  org: string;
  /** missing: all of the organization */
  sprites?: readonly string[];
  signal?: AbortSignal;
  onProgress?: (progress: Readonly<FsckProgress>) => void;
}

export interface FsckProgress {
  sprites: number;
  /** checkpoints, and the newest state of each sprite */
  states: number;
  pages: number;
  packs: number;
  chunks: number;
  bytesRead: number;
}

/** Something that makes a state unreadable, in whole or in part. */
export interface Damage {
  sprite: string;
  /** null: the newest state */
  checkpoint: string | null;
  /** what is wrong, with the key of the object */
  problem: string;
  /** blocks that cannot be read, ascending; empty when the whole state is unknown */
  blocks: BlockRange[];
}

export interface FsckReport extends FsckProgress {
  damage: Damage[];
  /**
   * objects that are not what their names say, though no state needs the part that is wrong: key and problem. The machine of
   * a sprite may need it, when it is of a base
   */
  warnings: { key: string; problem: string }[];
}

interface State {
  sprite: string;
  checkpoint: string | null;
  root: MapRoot;
}

interface Base {
  sprite: string;
  root: string;
}

/**
 * Proves that every state of these sprites can be read: heads, checkpoint documents, pages, packs, and the hash of every
 * chunk. Changes nothing, needs no ownership, and may run while everything runs: what is deleted meanwhile is no damage.
 *
 * @throws HobError `not_found` for a sprite that is not there, and what the store throws
 */
export async function fsck(options: FsckOptions): Promise<FsckReport> {
  return await new Fsck(options).run();
}

class Fsck {
  readonly #options: FsckOptions;
  readonly #keys: OrgKeys;
  readonly #pages: PageStore;
  readonly #packs: PackCheck;
  readonly #damage: Damage[] = [];
  readonly #bases: Base[] = [];
  readonly #seen = new Set<string>();
  /** by name of the page */
  readonly #brokenPages = new Map<string, string>();
  /** problem by index, by name of the leaf */
  readonly #brokenChunks = new Map<string, Map<number, string>>();
  #sprites = 0;
  #states = 0;

  constructor(options: FsckOptions) {
    this.#options = options;
    this.#keys = new OrgKeys(options.org);
    this.#pages = new PageStore({ store: options.store, org: options.org, cachedPages: 64 });
    this.#packs = new PackCheck(options.store, this.#keys);
  }

  async run(): Promise<FsckReport> {
    const { store, sprites } = this.#options;
    const ids = sprites ?? (await listSprites(store, this.#keys.org)).filter(({ hasHead }) => hasHead).map(({ id }) => id);
    const states: State[] = [];
    for (const id of ids) states.push(...(await this.#statesOf(id, sprites !== undefined)));
    for (const { root } of states) await this.#check(root);
    if (this.#brokenPages.size + this.#brokenChunks.size > 0) for (const state of states) await this.#attribute(state);
    const damage: Damage[] = [];
    for (const one of this.#damage) if (await this.#stillThere(one)) damage.push(one);
    const pages = await this.#checkBases();
    const packs = [...this.#packs.damaged].map(([pack, problem]) => ({ key: this.#keys.pack(pack), problem }));
    return { ...this.#progress(), damage, warnings: [...pages, ...packs] };
  }

  /** The states that the head names; those whose document cannot be read go to the damage. */
  async #statesOf(sprite: string, required: boolean): Promise<State[]> {
    this.#options.signal?.throwIfAborted();
    const keys = this.#keys.sprite(sprite);
    const head = await this.#head(sprite, keys.head, required);
    if (head === undefined) return [];
    this.#sprites++;
    for (const root of head.bases ?? []) this.#bases.push({ sprite, root });
    const states: State[] = [{ sprite, checkpoint: null, root: head.root }];
    for (const { id } of head.checkpoints) {
      try {
        states.push({ sprite, checkpoint: id, root: (await readCheckpoint(this.#options.store, keys, head, id)).root });
      } catch (error) {
        if (!isDamage(error)) throw error;
        this.#damage.push({ sprite, checkpoint: id, problem: error.message, blocks: [] });
      }
    }
    this.#states += states.length;
    return states;
  }

  async #head(sprite: string, key: string, required: boolean): Promise<HeadDocument | undefined> {
    try {
      const present = await readHead(this.#options.store, key);
      if (present === undefined && required)
        throw new HobError("not_found", `sprite ${sprite} is not in ${this.#options.store.description}`);
      return present?.head;
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#damage.push({ sprite, checkpoint: null, problem: error.message, blocks: [] });
      return undefined;
    }
  }

  /** Reads what is new of a map, and the chunks of its leaves. */
  async #check(root: MapRoot): Promise<void> {
    await walkPages(this.#pages, root, {
      enter: (name) => {
        this.#options.signal?.throwIfAborted();
        if (this.#seen.has(name)) return false;
        this.#seen.add(name);
        return true;
      },
      leaf: (page, name) => this.#checkLeaf(page, name),
      broken: (error, name) => {
        if (!isDamage(error)) throw error;
        this.#brokenPages.set(name, error.message);
      },
    });
  }

  /**
   * Reads what only bases have: it is damage of no state, and the machine that reads through them may have written all that is
   * lost itself. @returns the pages that cannot be read; packs count with the others
   */
  async #checkBases(): Promise<FsckReport["warnings"]> {
    const found: FsckReport["warnings"] = [];
    for (const { sprite, root } of this.#bases) {
      const known = this.#brokenPages.size;
      await this.#check(root);
      const broken = [...this.#brokenPages].slice(known);
      if (broken.length === 0) continue;
      const head = await this.#head(sprite, this.#keys.sprite(sprite).head, false);
      if (head?.bases?.includes(root) !== true) continue;
      found.push(...broken.map(([name, problem]) => ({ key: this.#keys.page(name), problem })));
    }
    return found;
  }

  async #checkLeaf(page: LeafPage, name: string): Promise<void> {
    const problems = new Map<number, string>();
    for (const [index, ref] of page.entries) {
      const problem = await this.#packs.problem(ref);
      if (problem !== undefined) problems.set(index, problem);
    }
    if (problems.size > 0) this.#brokenChunks.set(name, problems);
    this.#options.onProgress?.(this.#progress());
  }

  /** Finds the blocks of a state that the broken pages and chunks stand for. */
  async #attribute({ sprite, checkpoint, root }: State): Promise<void> {
    const byProblem = new Map<string, BlockRange[]>();
    const add = (problem: string, range: BlockRange): void => {
      const ranges = byProblem.get(problem) ?? [];
      byProblem.set(problem, ranges);
      const last = ranges.at(-1);
      if (last !== undefined && last.first + last.count === range.first)
        ranges[ranges.length - 1] = { ...last, count: last.count + range.count };
      else ranges.push(range);
    };
    await walkPages(this.#pages, root, {
      enter: (name, level, first) => {
        const problem = this.#brokenPages.get(name);
        if (problem !== undefined) add(problem, { first, count: blocksOfLevel(level) });
        return problem === undefined;
      },
      leaf: (_, name, first) => {
        for (const [index, problem] of this.#brokenChunks.get(name) ?? []) add(problem, { first: first + index, count: 1 });
      },
    });
    for (const [problem, blocks] of byProblem) this.#damage.push({ sprite, checkpoint, problem, blocks });
  }

  /** Whether the state is still what the head names: deleted states lose their objects in time. */
  async #stillThere({ sprite, checkpoint }: Damage): Promise<boolean> {
    try {
      const now = await readHead(this.#options.store, this.#keys.sprite(sprite).head);
      return now !== undefined && (checkpoint === null || now.head.checkpoints.some(({ id }) => id === checkpoint));
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true;
    }
  }

  #progress(): FsckProgress {
    const { packs, chunks, bytesRead } = this.#packs;
    return { sprites: this.#sprites, states: this.#states, pages: this.#seen.size, packs, chunks, bytesRead };
  }
}

const isDamage = (error: unknown): error is HobError => error instanceof HobError && error.code === "data_damaged";
