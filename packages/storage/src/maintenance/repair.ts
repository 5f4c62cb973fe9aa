import { type CheckpointDocument, FORMAT_VERSION } from "../format/documents.ts";
import { MAP_LEVELS } from "../format/limits.ts";
import { blocksOfLevel } from "../format/page.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import type { HeadChange } from "../ownership/types.ts";
import { Ranges } from "../util/ranges.ts";
import { type Damage, type FsckOptions, type FsckReport, fsck } from "./fsck.ts";
import { ChunkRepair } from "./repair-chunks.ts";
import { PageRepair } from "./repair-pages.ts";
import type { RepairOptions } from "./repair-source.ts";
import { type DamagedState, damagedStates } from "./repair-states.ts";
import { type PlacedPage, StateRebuild } from "./state-rebuild.ts";

export type { CheckpointFacts, LocalState, RepairOptions, RepairSource } from "./repair-source.ts";

/** A document, pages, chunks: each may hide damage in the next. */
const ROUNDS = 4;

export interface StateRepair {
  pages: number;
  blocks: number;
  documents: number;
  /** the states' new roots by those before */
  roots: ReadonlyMap<string, string>;
}

/**
 * `fsck`, and again after each attempt to repair what it has found, for as long as that helps: what lies below something that
 * was lost shows when that is back. @returns the last report
 *
 * @throws as `fsck`, and what `mend` throws
 */
export async function fsckAndRepair(options: FsckOptions, mend: (damage: readonly Damage[]) => Promise<unknown>): Promise<FsckReport> {
  let report = await fsck(options);
  for (let round = 0; round < ROUNDS && report.damage.length > 0; round++) {
    // Nobody makes a head anew: who may write is said there and nowhere else.
    if (report.damage.some(({ checkpoint, blocks }) => checkpoint === null && blocks.length === 0)) break;
    const before = JSON.stringify(report.damage);
    await mend(report.damage);
    report = await fsck(options);
    if (JSON.stringify(report.damage) === before) break;
  }
  return report;
}

/**
 * Brings back what is known to be damaged: nothing is checked before or after. Lost pages come back by their names, or as new
 * ones of the same content; lost chunks and documents as new ones. Everything new is named by one write of the head, after
 * which the states have other roots.
 *
 * @throws as `Ownership.replaceCheckpoints`, and what the store and the source throw; then the head names what it did before
 */
export async function repairStates(options: RepairOptions, found: readonly Pick<Damage, "checkpoint" | "blocks">[]): Promise<StateRepair> {
  return await new Repair(options, found).run();
}

class Repair {
  readonly #options: RepairOptions;
  readonly #found: readonly Pick<Damage, "checkpoint" | "blocks">[];
  readonly #rebuild: StateRebuild;
  readonly #pages: PageRepair;
  readonly #chunks: ChunkRepair;

  constructor(options: RepairOptions, found: readonly Pick<Damage, "checkpoint" | "blocks">[]) {
    this.#options = options;
    this.#found = found;
    this.#rebuild = new StateRebuild(options, found);
    this.#pages = new PageRepair(options, this.#rebuild);
    this.#chunks = new ChunkRepair(options, this.#rebuild);
  }

  async run(): Promise<StateRepair> {
    const { ownership, signal, beforeHead } = this.#options;
    const startedAt = Date.now();
    const { states, documents: lost } = await damagedStates(ownership, this.#found);
    const lostPages = await this.#pages.run(states);
    const roots = new Map<string, string>();
    const documents: CheckpointDocument[] = [];
    let change: HeadChange = {};
    for (const state of states) {
      signal?.throwIfAborted();
      const root = await this.#mend(state, lostPages.get(state) ?? []);
      if (state.root === null || root === null || root === state.root) continue;
      roots.set(state.root, root);
      if (state.document === undefined) change = { root };
      else documents.push({ ...state.document, root });
    }
    const replaced = documents.length;
    for (const id of lost) documents.push(...(await this.#document(id)));
    if (roots.size > 0) await beforeHead?.(roots);
    if (roots.size + documents.length > 0) await ownership.replaceCheckpoints(documents, change, { startedAt });
    return { pages: this.#pages.repaired, blocks: this.#chunks.repaired, documents: documents.length - replaced, roots };
  }

  async #mend({ root, checkpoint, ranges }: DamagedState, lost: readonly PlacedPage[]): Promise<MapRoot> {
    const unknown = new Ranges(lost.map(({ level, first }) => ({ first, count: blocksOfLevel(level) })));
    return await this.#chunks.run(await this.#pages.rewrite(root), checkpoint, ranges, unknown);
  }

  /** The document of a checkpoint that has lost it, and its map with it; none: the machine does not have the checkpoint. */
  async #document(id: string): Promise<CheckpointDocument[]> {
    const { ownership, source } = this.#options;
    const local = await source.state?.(id, null);
    if (local?.document === undefined) return [];
    const place = { level: MAP_LEVELS - 1, first: 0, blocks: undefined };
    const root = await this.#rebuild.page(place, id, local, await this.#pages.rewrite(local.origin));
    if (root === undefined) return [];
    const { sprite, epoch, head } = ownership;
    const map = { root: root?.page ?? null, storedBlocks: root?.blocks ?? 0, volumeBytes: head.volumeBytes };
    return [{ ...local.document, ...map, format: "hob-checkpoint", version: FORMAT_VERSION, sprite, id, epoch }];
  }
}
