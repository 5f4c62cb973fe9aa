import { decodeChunk } from "../format/chunk-codec.ts";
import { damaged } from "../format/damage.ts";
import { sha256 } from "../format/hash.ts";
import { OrgKeys } from "../format/keys.ts";
import { BLOCK_BYTES } from "../format/limits.ts";
import type { ChunkRef } from "../map/chunk-ref.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { Lru } from "../util/lru.ts";
import { PriorityGate, Ticket } from "../util/priority-gate.ts";
import { type ChunkRun, planRuns } from "./runs.ts";
import type { ChunkCache, ChunkStats, LoadOptions } from "./types.ts";

export interface ChunkLoaderOptions {
  /** one that tries again by itself: RetryingStore */
  store: ObjectStore;
  org: string;
  /** uncompressed chunks kept in memory. Default 16 MiB */
  cacheBytes?: number;
  cache?: ChunkCache;
  /** ranged GETs at the same time. Default 8 */
  concurrentGets?: number;
}

/** A chunk on its way. */
interface Arrival {
  readonly data: Promise<Buffer>;
  /** whether somebody waits for it */
  isWanted: boolean;
  /** of the request that brings it, once that is known */
  ticket?: Ticket;
}

/**
 * Brings the chunks of an organization from the store, for any number of readers. Adjacent chunks of a pack come by one
 * request, the same chunk is never fetched twice at a time, and every chunk is checked against its hash. What is fetched
 * in the background gives way, and a chunk that somebody comes to wait for meanwhile does not any more.
 *
 * Buffers that it gives may be shared: they are for reading only.
 */
export class ChunkLoader {
  readonly #store: ObjectStore;
  readonly #keys: OrgKeys;
  readonly #memory: Lru<string, Buffer>;
  readonly #cache: ChunkCache | undefined;
  readonly #arrivals = new Map<string, Arrival>();
  readonly #gate: PriorityGate;
  readonly #stats: ChunkStats = { requests: 0, bytesFetched: 0, memoryHits: 0, cacheHits: 0, fetched: 0 };

  constructor(options: ChunkLoaderOptions) {
    const { concurrentGets = 8 } = options;
    this.#store = options.store;
    this.#keys = new OrgKeys(options.org);
    this.#memory = new Lru(options.cacheBytes ?? 16 * 1024 * 1024);
    this.#cache = options.cache;
    this.#gate = new PriorityGate(concurrentGets, Math.max(1, concurrentGets >> 1));
  }

  get stats(): Readonly<ChunkStats> {
    return { ...this.#stats };
  }

  /** The chunks by hash. @throws HobError `data_damaged`, and what the store throws */
  async load(wanted: Iterable<ChunkRef>, { background = false }: LoadOptions = {}): Promise<Map<string, Buffer>> {
    const found = new Map<string, Promise<Buffer>>();
    const missing: ChunkRef[] = [];
    for (const ref of new Map([...wanted].map((one) => [one.hash, one])).values()) {
      const data = this.#memory.get(ref.hash);
      if (data !== undefined) this.#stats.memoryHits++;
      const running = data === undefined ? this.#join(ref.hash, background) : Promise.resolve(data);
      if (running === undefined) missing.push(ref);
      else found.set(ref.hash, running);
    }
    for (const [hash, promise] of this.#fetch(missing, background)) found.set(hash, promise);
    return new Map(await Promise.all([...found].map(async ([hash, promise]): Promise<[string, Buffer]> => [hash, await promise])));
  }

  /** The chunk that is on its way already. */
  #join(hash: string, background: boolean): Promise<Buffer> | undefined {
    const arrival = this.#arrivals.get(hash);
    if (arrival !== undefined && !background) {
      arrival.isWanted = true;
      if (arrival.ticket !== undefined) this.#gate.promote(arrival.ticket);
    }
    return arrival?.data;
  }

  /** Starts the fetches at once, so that whoever comes next finds them under way. */
  #fetch(missing: readonly ChunkRef[], background: boolean): Map<string, Promise<Buffer>> {
    if (missing.length === 0) return new Map();
    const cached = Promise.all(missing.map((ref) => this.#fromCache(ref)));
    const fetched = cached.then((hits) => this.#fromStore(missing.filter((_, number) => hits[number] === undefined)));
    const started = new Map<string, Promise<Buffer>>();
    missing.forEach((ref, number) => {
      const data = cached
        .then(async (hits) => hits[number] ?? ((await (await fetched).get(ref.hash)) as Buffer))
        .finally(() => this.#arrivals.delete(ref.hash));
      // All are awaited together; the first failure is the one that is seen.
      data.catch(() => undefined);
      this.#arrivals.set(ref.hash, { data, isWanted: !background });
      started.set(ref.hash, data);
    });
    return started;
  }

  async #fromCache(ref: ChunkRef): Promise<Buffer | undefined> {
    const data = await this.#cache?.get(ref.hash).catch(() => undefined);
    if (data === undefined) return undefined;
    if (data.length !== BLOCK_BYTES || sha256(data) !== ref.hash) {
      await this.#cache?.drop?.(ref.hash).catch(() => undefined);
      return undefined;
    }
    this.#stats.cacheHits++;
    this.#memory.set(ref.hash, data, data.length);
    return data;
  }

  #fromStore(refs: readonly ChunkRef[]): Map<string, Promise<Buffer>> {
    const chunks = new Map<string, Promise<Buffer>>();
    for (const run of planRuns(refs)) {
      const bytes = this.#gate.run(this.#ticket(run), () => this.#get(run));
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

  #ticket(run: ChunkRun): Ticket {
    const arrivals = run.refs.flatMap(({ hash }) => this.#arrivals.get(hash) ?? []);
    const ticket = new Ticket(!arrivals.some(({ isWanted }) => isWanted));
    for (const arrival of arrivals) arrival.ticket = ticket;
    return ticket;
  }

  async #get(run: ChunkRun): Promise<Buffer> {
    const key = this.#keys.pack(run.pack);
    const object = await this.#store.get(key, { range: { offset: run.offset, length: run.length }, maxBytes: run.length });
    if (object === undefined) throw damaged(key, "is missing");
    if (object.data.length !== run.length) throw damaged(key, `ends before byte ${run.offset + run.length}`);
    this.#stats.requests++;
    this.#stats.bytesFetched += run.length;
    return object.data;
  }

  async #decode(ref: ChunkRef, stored: Buffer): Promise<Buffer> {
    const key = this.#keys.pack(ref.pack);
    const decoded = await decodeChunk(key, { encoding: ref.encoding, bytes: stored }, ref.hash);
    // A chunk that is stored as it is is a part of the answer: the whole of that would stay in memory with it.
    const data = decoded === stored ? Buffer.from(decoded) : decoded;
    this.#stats.fetched++;
    this.#memory.set(ref.hash, data, data.length);
    void this.#cache?.put(ref.hash, data).catch(() => undefined);
    return data;
  }
}
