/**
 * A cache on disk behind the one in memory. Content is checked by the reader after `get`, so an implementation needs no
 * checksums; it may forget whatever it likes, and its errors must not fail a read.
 */
export interface ChunkCache {
  /** the uncompressed chunk, or undefined */
  get(hash: string): Promise<Buffer | undefined>;
  put(hash: string, data: Buffer): Promise<void>;
}

export interface BlockReaderStats {
  /** ranged GETs of packs */
  requests: number;
  /** bytes of packs that came over the wire */
  bytesFetched: number;
  /** blocks served from memory, from the ChunkCache, from the store, and as zeros */
  memoryHits: number;
  cacheHits: number;
  fetched: number;
  zeros: number;
}
