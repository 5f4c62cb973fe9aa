import type { CheckpointDocument, HeadDocument, Origin } from "../format/documents.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import type { ObjectStore } from "../store/object-store.ts";

/** An upload must be published within this time of its start: `gc` may take what is older for abandoned. */
export const MAX_UPLOAD_AGE_MS = 20 * 60 * 60 * 1000;

export interface OwnershipOptions {
  store: ObjectStore;
  org: string;
  sprite: string;
  /** name of the host; unique */
  owner: string;
  now?: () => Date;
  /**
   * Roots of maps that the owner's machine reads through, for the head to name: asked right before each write of `Ownership`.
   * Without it the head names what it did. `acquire` itself does not ask: its head names those of the one before, or none.
   */
  bases?: () => readonly string[];
}

export interface AcquireOptions extends OwnershipOptions {
  /** what a head that does not exist yet begins with; without it a sprite without a head is `not_found` */
  initial?: InitialState;
  /** the sprite must not be in the store yet; else `conflict` */
  create?: boolean;
  /** of the upload that made the root of `initial` */
  startedAt?: number;
  /** take it from another owner; without it that is a `conflict` */
  takeOver?: boolean;
}

export interface InitialState {
  volumeBytes: number;
  root?: MapRoot;
  storedBlocks?: number;
  parent?: string | null;
  /** documents that are in the store already */
  checkpoints?: HeadDocument["checkpoints"];
  lastCheckpoint?: number;
  lastAutomatic?: number;
  origin?: Origin;
  attributes?: Record<string, string>;
}

/** What an owner may change in a head. */
export type HeadChange = Partial<
  Pick<HeadDocument, "root" | "storedBlocks" | "parent" | "volumeBytes" | "attributes" | "checkpoints" | "lastCheckpoint" | "lastAutomatic">
>;

export type NewCheckpoint = Pick<CheckpointDocument, "id" | "comment" | "createdAt" | "root" | "storedBlocks" | "automatic"> &
  Partial<Pick<CheckpointDocument, "parent" | "reason" | "changedBlocks" | "uploadedBytes" | "origin" | "attributes">>;

export interface PublishOptions {
  /** `UploadResult.startedAt` of the upload that made the root */
  startedAt?: number;
  signal?: AbortSignal;
}
