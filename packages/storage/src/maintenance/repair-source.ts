import { HobError } from "@hob/protocol";
import type { CheckpointDocument } from "../format/documents.ts";
import type { BlockRange, MapRoot } from "../map/chunk-ref.ts";
import type { Ownership } from "../ownership/ownership.ts";
import type { ObjectStore } from "../store/object-store.ts";

/** Where lost content may still be: a local volume, a cache. Chunks and pages that it gives are checked. */
export interface RepairSource {
  /** the block that had this hash, in this state (null: the newest), if it is there */
  chunk(hash: string, block: number, checkpoint: string | null): Promise<Buffer | undefined>;
  /** the page of this name, if it is there */
  page?(name: string): Promise<Buffer | undefined>;
  /**
   * A state as it is there, without the store's map of it. It is believed: nothing else says what the state was.
   * @param root of the newest state (`checkpoint` null), which is another one when its map is another
   */
  state?(checkpoint: string | null, root: MapRoot): Promise<LocalState | undefined>;
}

/** A state of a sprite as a machine has it. */
export interface LocalState {
  /** map that every block is read from that was never written there */
  readonly origin: MapRoot;
  /** all others */
  readonly written: readonly BlockRange[];
  /** one of `written`, BLOCK_BYTES bytes; undefined: it cannot be read */
  read(block: number): Promise<Buffer | undefined>;
  /** of a checkpoint: what its document says beside the map */
  readonly document?: CheckpointFacts;
}

export type CheckpointFacts = Pick<CheckpointDocument, "comment" | "createdAt" | "parent" | "automatic" | "reason" | "attributes">;

export interface RepairOptions {
  store: ObjectStore;
  org: string;
  /** of the sprite that is repaired */
  ownership: Ownership;
  source: RepairSource;
  /**
   * Called once, when all that is new is in the store and no head names it yet, with the states' new roots by those before. What it
   * throws is thrown, and the head names what it did before.
   */
  beforeHead?: (roots: ReadonlyMap<string, string>) => Promise<void>;
  signal?: AbortSignal;
}

export const isDamage = (error: unknown): error is HobError => error instanceof HobError && error.code === "data_damaged";

/** For what may be damaged: undefined then. Every other error is thrown. */
export function onlyDamage(error: unknown): undefined {
  if (isDamage(error)) return undefined;
  throw error;
}
