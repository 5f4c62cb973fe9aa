/**
 * A cache on disk behind the one in memory. Content is checked by the loader after `get`, so an implementation needs no
 * checksums; it may forget whatever it likes, and its errors must not fail a read.
 */
export interface ChunkCache {
  /** the uncompressed chunk, or undefined */
  get(hash: string): Promise<Buffer | undefined>;
  put(hash: string, data: Buffer): Promise<void>;
  /** what it gave for this hash was something else */
  drop?(hash: string): Promise<void>;
}

export interface LoadOptions {
  /** nobody waits for it: it gives way to what somebody waits for. Default false */
  background?: boolean;
}

export interface ChunkStats {
  /** ranged GETs of packs */
  requests: number;
  /** bytes of packs that came over the wire */
  bytesFetched: number;
  /** blocks served from memory, from the ChunkCache, and from the store */
  memoryHits: number;
  cacheHits: number;
  fetched: number;
}

export interface BlockReaderStats extends ChunkStats {
  /** blocks that no chunk was needed for */
  zeros: number;
}
