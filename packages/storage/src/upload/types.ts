import type { MapRoot } from "../map/chunk-ref.ts";

/** Changes that an upload has in hand at a time. */
export const CHANGES_HELD = 8;

/** A block as it is now; `data` is missing when it was discarded and reads as zeros. */
export interface BlockChange {
  readonly block: number;
  /** BLOCK_BYTES bytes. Not copied: the sender leaves it alone until it is asked for the CHANGES_HELD-th change after it. */
  readonly data: Buffer | undefined;
}

export interface UploadStats {
  /** changes taken from the source */
  blocks: number;
  /** of them: zeros */
  zeroBlocks: number;
  /** of them: the base had the same content there */
  unchangedBlocks: number;
  /** of them: the same content was uploaded a short while ago */
  reusedBlocks: number;
  /** of the source */
  bytesRead: number;
  /** of packs and pages */
  bytesUploaded: number;
  packs: number;
  pages: number;
}

export interface UploadResult {
  /** reachable from nowhere until it is published in a head */
  root: MapRoot;
  /** blocks of the volume that are not zero */
  storedBlocks: number;
  stats: UploadStats;
  /** milliseconds since 1970; a head must name the result within MAX_UPLOAD_AGE_MS of it */
  startedAt: number;
}

export interface UploadOptions {
  signal?: AbortSignal;
  /** called after each pack, with the figures so far */
  onProgress?: (stats: Readonly<UploadStats>) => void;
}
