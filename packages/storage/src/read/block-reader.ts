import { HobError } from "@hob/protocol";
import { decodeChunk } from "../format/chunk-codec.ts";
import { damaged } from "../format/damage.ts";
import { sha256 } from "../format/hash.ts";
import { BLOCK_BYTES } from "../format/limits.ts";
import { ChunkMap, checkBlocks } from "../map/chunk-map.ts";
import type { ChunkRef, MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { Semaphore } from "../util/concurrency.ts";
import { Lru } from "../util/lru.ts";
import { type ChunkRun, planRuns } from "./runs.ts";
import type { BlockReaderStats, ChunkCache } from "./types.ts";

/** Blocks of one `readBlocks`; bounds what one call holds in memory (16 MiB). */
export const MAX_READ_BLOCKS = 256;

export interface BlockReaderOptions {
  /** one that tries again by itself: RetryingStore */
  store: ObjectStore;
  org: string;
  root: MapRoot;
  /** shared with other maps of the organization; made when missing */
  pages?: PageStore;
  /** uncompressed chunks kept in memory. Default 16 MiB */
  cacheBytes?: number;
  cache?: ChunkCache;
  /** ranged GETs at the same time. Default 8 */
  concurrentGets?: number;
}

/**
 * Reads the blocks of one state of a volume. Adjacent chunks of a pack come by one request, the same chunk is never fetched
 * twice at a time, and every chunk is checked against its hash.
 *
 * Buffers that it returns may be shared with other readers: they are for reading only.
 */
export class BlockReader {
  readonly map: ChunkMap;
  readonly #store: ObjectStore;
  readonly #memory: Lru<string, Buffer>;
  readonly #cache: ChunkCache | undefined;
  readonly #fetching = new Map<string, Promise<Buffer>>();
  readonly #slots: Semaphore;
  readonly #stats: BlockReaderStats = { requests: 0, bytesFetched: 0, memoryHits: 0, cacheHits: 0, fetched: 0, zeros: 0 };

  constructor(options: BlockReaderOptions) {
    const pages = options.pages ?? new PageStore({ store: options.store, org: options.org });
    this.map = new ChunkMap({ store: options.store, org: options.org, root: options.root, pages });
    this.#store = options.store;
    this.#memory = new Lru(options.cacheBytes ?? 16 * 1024 * 1024);
    this.#cache = options.cache;
    this.#slots = new Semaphore(options.concurrentGets ?? 8);
  }

  get stats(): Readonly<BlockReaderStats> {
    return { ...this.#stats };
  }

  /** One block. @throws HobError `data_damaged`, `invalid_request`, and what the store throws */
  async read(block: number): Promise<Buffer> {
    const [data] = await this.readBlocks(block, 1);
    return data as Buffer;
  }

  /** At most MAX_READ_BLOCKS blocks from `first` on. @throws as `read` */
  async readBlocks(first: number, count: number): Promise<Buffer[]> {
    checkBlocks(first, count);
    if (count > MAX_READ_BLOCKS) throw new HobError("invalid_request", `cannot read ${count} blocks at once, at most ${MAX_READ_BLOCKS}`);
    const refs = await this.map.lookupRange(first, count);
    const wanted = new Map<string, ChunkRef>();
    for (const ref of refs) {
      if (ref === undefined) this.#stats.zeros++;
      else wanted.set(ref.hash, ref);
    }
    const chunks = await this.#chunks(wanted);
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

  async #chunks(wanted: ReadonlyMap<string, ChunkRef>): Promise<Map<string, Buffer>> {
    const found = new Map<string, Promise<Buffer>>();
    const missing: ChunkRef[] = [];
    for (const [hash, ref] of wanted) {
      const data = this.#memory.get(hash);
      if (data !== undefined) this.#stats.memoryHits++;
      const running = data === undefined ? this.#fetching.get(hash) : Promise.resolve(data);
      if (running === undefined) missing.push(ref);
      else found.set(hash, running);
    }
    for (const [hash, promise] of this.#fetch(missing)) found.set(hash, promise);
    const chunks = await Promise.all([...found].map(async ([hash, promise]): Promise<[string, Buffer]> => [hash, await promise]));
    return new Map(chunks);
  }

  /** Starts the fetches at once, so that whoever comes next finds them under way. */
  #fetch(missing: readonly ChunkRef[]): Map<string, Promise<Buffer>> {
    if (missing.length === 0) return new Map();
    const cached = Promise.all(missing.map((ref) => this.#fromCache(ref)));
    const fetched = cached.then((hits) => this.#fromStore(missing.filter((_, number) => hits[number] === undefined)));
    const started = new Map<string, Promise<Buffer>>();
    missing.forEach((ref, number) => {
      const chunk = cached
        .then(async (hits) => hits[number] ?? ((await (await fetched).get(ref.hash)) as Buffer))
        .finally(() => this.#fetching.delete(ref.hash));
      // All are awaited together; the first failure is the one that is seen.
      chunk.catch(() => undefined);
      this.#fetching.set(ref.hash, chunk);
      started.set(ref.hash, chunk);
    });
    return started;
  }

  async #fromCache(ref: ChunkRef): Promise<Buffer | undefined> {
    const data = await this.#cache?.get(ref.hash).catch(() => undefined);
    if (data?.length !== BLOCK_BYTES || sha256(data) !== ref.hash) return undefined;
    this.#stats.cacheHits++;
    this.#memory.set(ref.hash, data, data.length);
    return data;
  }

  #fromStore(refs: readonly ChunkRef[]): Map<string, Promise<Buffer>> {
    const chunks = new Map<string, Promise<Buffer>>();
    for (const run of planRuns(refs)) {
      const bytes = this.#slots.run(() => this.#get(run));
      for (const ref of run.refs) {
        const chunk = bytes.then((all) =>
          this.#decode(ref, all.subarray(ref.offset - run.offset, ref.offset - run.offset + ref.storedBytes)),
        );
        chunk.catch(() => undefined);
        chunks.set(ref.hash, chunk);
      }
    }
    return chunks;
  }

  async #get(run: ChunkRun): Promise<Buffer> {
    const key = this.map.pages.keys.pack(run.pack);
    const object = await this.#store.get(key, { range: { offset: run.offset, length: run.length }, maxBytes: run.length });
    if (object === undefined) throw damaged(key, "is missing");
    if (object.data.length !== run.length) throw damaged(key, `ends before byte ${run.offset + run.length}`);
    this.#stats.requests++;
    this.#stats.bytesFetched += run.length;
    return object.data;
  }

  async #decode(ref: ChunkRef, stored: Buffer): Promise<Buffer> {
    const key = this.map.pages.keys.pack(ref.pack);
    const decoded = await decodeChunk(key, { encoding: ref.encoding, bytes: stored }, ref.hash);
    // A chunk that is stored as it is is a part of the answer: the whole of that would stay in memory with it.
    const data = decoded === stored ? Buffer.from(decoded) : decoded;
    this.#stats.fetched++;
    this.#memory.set(ref.hash, data, data.length);
    void this.#cache?.put(ref.hash, data).catch(() => undefined);
    return data;
  }
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);
