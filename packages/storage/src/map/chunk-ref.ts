/** How the bytes of a chunk are stored in its pack. */
export const Encoding = { raw: 0, zstd: 1 } as const;
export type Encoding = (typeof Encoding)[keyof typeof Encoding];

/** Where the content of one block is. Hashes are SHA-256, 64 hexadecimal digits in lower case. */
export interface ChunkRef {
  /** of the uncompressed bytes */
  readonly hash: string;
  /** name of the pack */
  readonly pack: string;
  /** of the stored bytes in the pack */
  readonly offset: number;
  readonly storedBytes: number;
  readonly encoding: Encoding;
}

/** Name of the root page of a chunk map; null is the map of a volume that holds nothing but zeros. */
export type MapRoot = string | null;

/** A block that changes: what it is now, or null for zeros. */
export interface MapChange {
  readonly block: number;
  readonly ref: ChunkRef | null;
}

/** `count` blocks from `first` on. */
export interface BlockRange {
  readonly first: number;
  readonly count: number;
}
