import type { CheckpointDocument } from "../format/documents.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import type { Ownership } from "../ownership/ownership.ts";
import { Ranges } from "../util/ranges.ts";
import type { Damage } from "./fsck.ts";
import { isDamage } from "./repair-source.ts";

/** A state that is damaged. */
export interface DamagedState {
  /** null: the newest */
  readonly checkpoint: string | null;
  /** missing: the newest state has none */
  readonly document?: CheckpointDocument;
  readonly root: MapRoot;
  readonly storedBlocks: number;
  /** where it is damaged */
  readonly ranges: Ranges;
}

export interface FoundDamage {
  readonly states: DamagedState[];
  /** checkpoints whose document is lost */
  readonly documents: string[];
}

/** What of the damage there still is, as the head says now: checkpoints may have been deleted since. */
export async function damagedStates(ownership: Ownership, found: readonly Pick<Damage, "checkpoint" | "blocks">[]): Promise<FoundDamage> {
  const { head } = ownership;
  const named = new Set(head.checkpoints.map(({ id }) => id));
  const states: DamagedState[] = [];
  const documents: string[] = [];
  for (const [checkpoint, all] of Map.groupBy(found, (one) => one.checkpoint)) {
    const ranges = new Ranges(all.flatMap(({ blocks }) => blocks));
    if (checkpoint === null) {
      states.push({ checkpoint, root: head.root, storedBlocks: head.storedBlocks, ranges });
    } else if (named.has(checkpoint)) {
      const document = await documentOf(ownership, checkpoint);
      if (document === undefined) documents.push(checkpoint);
      else states.push({ checkpoint, document, root: document.root, storedBlocks: document.storedBlocks, ranges });
    }
  }
  return { states, documents };
}

/** undefined: it is damaged */
export async function documentOf(ownership: Ownership, checkpoint: string): Promise<CheckpointDocument | undefined> {
  try {
    return await ownership.readCheckpoint(checkpoint);
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}

/** Maps of the states beside one, which have most of its chunks in the same places. */
export class Neighbours {
  readonly #ownership: Ownership;
  readonly #roots = new Map<string | null, Promise<MapRoot>>();

  constructor(ownership: Ownership) {
    this.#ownership = ownership;
  }

  /** The checkpoints before and after it, and the newest state. */
  async of(checkpoint: string | null): Promise<{ checkpoint: string | null; root: MapRoot }[]> {
    const order = [...this.#ownership.head.checkpoints.map(({ id }) => id), null];
    const at = order.indexOf(checkpoint);
    const near = new Set([order[at + 1], order[at - 1], null].filter((one) => one !== undefined && one !== checkpoint));
    return await Promise.all(
      [...near].map(async (one) => ({ checkpoint: one as string | null, root: await this.#rootOf(one as string | null) })),
    );
  }

  #rootOf(checkpoint: string | null): Promise<MapRoot> {
    const known =
      this.#roots.get(checkpoint) ??
      (checkpoint === null
        ? Promise.resolve(this.#ownership.head.root)
        : documentOf(this.#ownership, checkpoint).then((document) => document?.root ?? null));
    this.#roots.set(checkpoint, known);
    return known;
  }
}
