import { HobError } from "@hob/protocol";
import { BLOCK_BYTES } from "../format/limits.ts";
import { ChunkMap, checkBlocks } from "../map/chunk-map.ts";
import type { ChunkRef, MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import { ChunkLoader, type ChunkLoaderOptions } from "./chunk-loader.ts";
import type { BlockReaderStats, LoadOptions } from "./types.ts";

/** Blocks of one `readBlocks`; bounds what one call holds in memory (16 MiB). */
export const MAX_READ_BLOCKS = 256;

export interface BlockReaderOptions extends ChunkLoaderOptions {
  root: MapRoot;
  /** shared with other maps of the organization; made when missing */
  pages?: PageStore;
  /** shared with other readers of the organization, which makes its own options those that count; made when missing */
  chunks?: ChunkLoader;
}

/**
 * Reads the blocks of one state of a volume.
 *
 * Buffers that it returns may be shared with other readers: they are for reading only.
 */
export class BlockReader {
  readonly map: ChunkMap;
  readonly #chunks: ChunkLoader;
  #zeros = 0;

  constructor(options: BlockReaderOptions) {
    const pages = options.pages ?? new PageStore({ store: options.store, org: options.org });
    this.map = new ChunkMap({ store: options.store, org: options.org, root: options.root, pages });
    this.#chunks = options.chunks ?? new ChunkLoader(options);
  }

  /** Of the loader, whoever else uses it; and the zeros of this reader. */
  get stats(): Readonly<BlockReaderStats> {
    return { ...this.#chunks.stats, zeros: this.#zeros };
  }

  /** One block. @throws HobError `data_damaged`, `invalid_request`, and what the store throws */
  async read(block: number): Promise<Buffer> {
    const [data] = await this.readBlocks(block, 1);
    return data as Buffer;
  }

  /** At most MAX_READ_BLOCKS blocks from `first` on. @throws as `read` */
  async readBlocks(first: number, count: number, options: LoadOptions = {}): Promise<Buffer[]> {
    checkBlocks(first, count);
    if (count > MAX_READ_BLOCKS) throw new HobError("invalid_request", `cannot read ${count} blocks at once, at most ${MAX_READ_BLOCKS}`);
    const refs = await this.map.lookupRange(first, count);
    const chunks = await this.#chunks.load(
      refs.filter((ref) => ref !== undefined),
      options,
    );
    this.#zeros += refs.filter((ref) => ref === undefined).length;
    return refs.map((ref) => (ref === undefined ? ZEROS : (chunks.get(ref.hash) as Buffer)));
  }

  /** `length` bytes from `offset` on. @throws as `read` */
  async readRange(offset: number, length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0);
    const first = Math.floor(offset / BLOCK_BYTES);
    const blocks = await this.readBlocks(first, Math.ceil((offset + length) / BLOCK_BYTES) - first);
    const start = offset - first * BLOCK_BYTES;
    return blocks.length === 1
      ? (blocks[0] as Buffer).subarray(start, start + length)
      : Buffer.concat(blocks).subarray(start, start + length);
  }

  /** Fetches blocks that somebody is going to read, so that they are near when it comes to that; gives way to reads. */
  async fetchAhead(blocks: readonly number[]): Promise<void> {
    const refs = await this.map.lookupMany(blocks);
    await this.#chunks.load(
      refs.filter((ref): ref is ChunkRef => ref !== undefined),
      { background: true },
    );
  }
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);
