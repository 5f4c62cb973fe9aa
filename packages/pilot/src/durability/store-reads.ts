import {
  BlockReader,
  ChunkLoader,
  DiskCache,
  type DiskCacheOptions,
  type MapRoot,
  type ObjectStore,
  OrgKeys,
  PageStore,
} from "@hob/storage";
import type { Logger } from "pino";
import type { BlockSource } from "../block-server/block-server.ts";
import { MapSource } from "./map-source.ts";
import { prefetchStart } from "./prefetch.ts";
import { StartRecord } from "./start-record.ts";

/** Milliseconds after which nothing that the sprite reads counts as its start any more. */
const RECORDED_MS = 3_000;

export interface StoreReadsParts {
  store: ObjectStore;
  organization: string;
  spriteId: string;
  log: Pick<Logger, "info" | "warn">;
  /** where chunks are kept on this machine; left out: nowhere */
  cache?: Omit<DiskCacheOptions, "writeAfter">;
  /** how long after the sprite runs reads are recorded as those of its start */
  recordedMs?: number;
}

/** Everything that is read of the store's maps here: one set of pages and chunks for all states of the sprite. */
export class StoreReads implements AsyncDisposable {
  readonly pages: PageStore;
  readonly organization: string;
  readonly cache: DiskCache | undefined;
  readonly #parts: StoreReadsParts;
  readonly #chunks: ChunkLoader;
  readonly #stopping = new AbortController();
  readonly #ready = Promise.withResolvers<void>();
  readonly #start: StartRecord;
  /** the state that the sprite starts on */
  #startRoot: MapRoot | undefined;

  constructor(parts: StoreReadsParts) {
    const { store, organization: org, spriteId, log, recordedMs = RECORDED_MS } = parts;
    this.#parts = parts;
    this.organization = org;
    this.pages = new PageStore({ store, org });
    this.cache = parts.cache === undefined ? undefined : new DiskCache({ ...parts.cache, writeAfter: this.#ready.promise });
    this.#chunks = new ChunkLoader({ store, org, ...(this.cache === undefined ? {} : { cache: this.cache }) });
    this.#start = new StartRecord({ store, keys: new OrgKeys(org).sprite(spriteId), spriteId, log, recordedMs });
  }

  /** What came from the store, maps and contents. */
  get fetched(): { fetched_bytes: number; fetched_requests: number } {
    const all = [this.pages.stats, this.#chunks.stats];
    const sum = (of: "bytesFetched" | "requests") => all.reduce((total, stats) => total + stats[of], 0);
    return { fetched_bytes: sum("bytesFetched"), fetched_requests: sum("requests") };
  }

  /**
   * The sprite is about to start on this state: what its last start has read is fetched before anybody asks, and what this one
   * reads is noted. Once; what goes wrong is only slower.
   */
  expectStart(root: MapRoot): void {
    if (root === null || this.#startRoot !== undefined) return;
    this.#startRoot = root;
    const { log } = this.#parts;
    const begin = performance.now();
    const { signal } = this.#stopping;
    const lastStart = () => this.#start.ofLastStart();
    prefetchStart(this.#reader(root), { lastStart, ready: this.#ready.promise, signal }).then(
      (blocks) => log.info({ blocks, ms: Math.round(performance.now() - begin), ...this.fetched }, "fetched ahead for the start"),
      (err: unknown) => log.warn({ err }, "fetching ahead for the start"),
    );
  }

  /** The sprite runs: what is left to be done about its start may take the processor now. */
  ready(): void {
    this.#ready.resolve();
    this.#start.ready();
  }

  /** A state as the bytes of a device. */
  source(root: MapRoot, sizeBytes: number): BlockSource {
    const { signal } = this.#stopping;
    const onRead = root !== null && root === this.#startRoot ? this.#start.note.bind(this.#start) : undefined;
    return new MapSource({ reader: this.#reader(root), sizeBytes, signal, ...(onRead === undefined ? {} : { onRead }) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    this.#ready.resolve();
    this.#start[Symbol.dispose]();
    await this.cache?.[Symbol.asyncDispose]();
  }

  #reader(root: MapRoot): BlockReader {
    const { store, organization: org } = this.#parts;
    return new BlockReader({ store, org, root, pages: this.pages, chunks: this.#chunks });
  }
}
