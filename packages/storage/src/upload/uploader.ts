import { HobError } from "@hob/protocol";
import { encodeChunk, isZeroBlock } from "../format/chunk-codec.ts";
import { sha256 } from "../format/hash.ts";
import { BLOCK_BYTES, MAX_PACK_BYTES } from "../format/limits.ts";
import { ChunkMap, checkBlocks } from "../map/chunk-map.ts";
import type { ChunkRef, MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { inBatches } from "./batches.ts";
import { PackWriter, type PendingRef, resolveRef } from "./pack-writer.ts";
import { RecentChunks } from "./recent-chunks.ts";
import { type BlockChange, CHANGES_HELD, type UploadOptions, type UploadResult, type UploadStats } from "./types.ts";

/** Packs are closed at this size: large enough to be few, small enough that two fit into the memory of a small VM. */
const PACK_TARGET_BYTES = 8 * 1024 * 1024;

/** The map is written after this many changes (2 GiB), which bounds what an upload of a whole volume holds in memory. */
const CHANGES_PER_UPDATE = 32_768;

export interface UploaderOptions {
  /** one that tries again by itself: RetryingStore */
  store: ObjectStore;
  org: string;
  /** shared with the maps and readers of the organization; made when missing */
  pages?: PageStore;
  /** kept over several uploads; made when missing */
  recent?: RecentChunks;
  packTargetBytes?: number;
  /** PUTs of packs at the same time. Default 2 */
  concurrentPuts?: number;
  /** false: chunks of the base are sent again, because they are known to be lost. Default true */
  trustBase?: boolean;
  now?: () => number;
}

/**
 * Brings changed blocks into the store: packs first, then the pages of the map. What it has written is reachable from
 * nowhere until the caller publishes the root (`Ownership.publish`). An upload that was cut off leaves objects that `gc`
 * removes, and is simply done again on the same base.
 */
export class Uploader {
  readonly #options: UploaderOptions;
  readonly #pages: PageStore;
  readonly #recent: RecentChunks;

  constructor(options: UploaderOptions) {
    this.#options = options;
    this.#pages = options.pages ?? new PageStore({ store: options.store, org: options.org });
    this.#recent = options.recent ?? new RecentChunks();
  }

  /**
   * The map `base` with `changes`. They may come in any order, are fastest in ascending order, and of several for one block
   * the last counts. The source is read only as fast as the store takes it.
   *
   * @throws HobError `invalid_request` for a block outside of the volume or of the wrong size, what the store throws, and
   *   what the source throws
   */
  async upload(base: MapRoot, changes: AsyncIterable<BlockChange>, options: UploadOptions = {}): Promise<UploadResult> {
    const { store, org, packTargetBytes = PACK_TARGET_BYTES, concurrentPuts = 2, trustBase = true, now = Date.now } = this.#options;
    const map = new ChunkMap({ store, org, root: base, pages: this.#pages });
    const target = Math.min(packTargetBytes, MAX_PACK_BYTES - 2 * BLOCK_BYTES);
    const run = new UploadRun({ ...options, map, store, recent: this.#recent, target, concurrentPuts, trustBase, startedAt: now(), now });
    return await run.run(changes);
  }
}

interface RunOptions extends UploadOptions {
  map: ChunkMap;
  store: ObjectStore;
  recent: RecentChunks;
  target: number;
  concurrentPuts: number;
  trustBase: boolean;
  startedAt: number;
  now: () => number;
}

class UploadRun {
  readonly #options: RunOptions;
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  readonly #packs: PackWriter;
  readonly #stats: UploadStats = {
    blocks: 0,
    zeroBlocks: 0,
    unchangedBlocks: 0,
    reusedBlocks: 0,
    bytesRead: 0,
    bytesUploaded: 0,
    packs: 0,
    pages: 0,
  };
  /** whether it is in the store, by name */
  readonly #packsThere = new Map<string, Promise<boolean>>();
  #map: ChunkMap;
  /** since the map was written last */
  #changes = new Map<number, ChunkRef | PendingRef | null>();
  #pending = new Map<string, PendingRef>();
  /** when the oldest pack with a pending chunk was begun */
  #pendingSince: number;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#map = options.map;
    this.#pendingSince = options.startedAt;
    this.#signal = options.signal === undefined ? this.#failed.signal : AbortSignal.any([options.signal, this.#failed.signal]);
    this.#packs = new PackWriter({
      store: options.store,
      keys: options.map.pages.keys,
      targetBytes: options.target,
      concurrentPuts: options.concurrentPuts,
      signal: this.#signal,
      onPack: (sizeBytes) => this.#packWritten(sizeBytes),
      onError: (error) => this.#failed.abort(error),
    });
  }

  async run(changes: AsyncIterable<BlockChange>): Promise<UploadResult> {
    try {
      for await (const batch of inBatches(changes, CHANGES_HELD, this.#signal)) {
        await this.#take(batch);
        if (this.#changes.size >= CHANGES_PER_UPDATE) await this.#writeMap();
      }
      await this.#writeMap();
      const storedBlocks = await this.#map.storedBlocks();
      return { root: this.#map.root, storedBlocks, stats: { ...this.#stats }, startedAt: this.#options.startedAt };
    } catch (error) {
      this.#failed.abort(error);
      await this.#packs.settled();
      // The next try does not send again what is there: a store that is full would be filled with it each time anew.
      this.#remember([...this.#pending.values()].filter(({ pending }) => pending.isWritten));
      // The first failure is the cause; what came after it may only say that the upload was aborted.
      throw this.#failed.signal.reason;
    }
  }

  async #take(batch: readonly BlockChange[]): Promise<void> {
    const fresh = new Map<string, Buffer>();
    const settled: { block: number; ref: ChunkRef | null | undefined; hash: string }[] = [];
    for (const { block, data } of batch) {
      const hash = this.#hashOf(block, data);
      const ref = hash === undefined ? null : await this.#known(block, hash);
      settled.push({ block, ref, hash: hash ?? "" });
      if (ref === undefined && hash !== undefined && !this.#pending.has(hash)) fresh.set(hash, data as Buffer);
    }
    for (const [hash, data] of fresh) this.#pending.set(hash, await this.#packs.add(hash, await encodeChunk(data)));
    // In the order of the source: the last change of a block counts.
    for (const { block, ref, hash } of settled) this.#changes.set(block, ref === undefined ? (this.#pending.get(hash) as PendingRef) : ref);
  }

  /** undefined for zeros */
  #hashOf(block: number, data: Buffer | undefined): string | undefined {
    checkBlocks(block, 1);
    if (data !== undefined && data.length !== BLOCK_BYTES)
      throw new HobError("invalid_request", `block ${block} comes with ${data.length} bytes, a block has ${BLOCK_BYTES}`);
    this.#stats.blocks++;
    this.#stats.bytesRead += data?.length ?? 0;
    if (data !== undefined && !isZeroBlock(data)) return sha256(data);
    this.#stats.zeroBlocks++;
    return undefined;
  }

  /** The chunk of this content if it is in the store. */
  async #known(block: number, hash: string): Promise<ChunkRef | undefined> {
    const present = this.#options.trustBase ? await this.#map.lookup(block) : undefined;
    if (present?.hash === hash) {
      this.#stats.unchangedBlocks++;
      return present;
    }
    const recent = await this.#recent(hash);
    if (recent !== undefined || this.#pending.has(hash)) this.#stats.reusedBlocks++;
    return recent;
  }

  /** A chunk that nothing may reach any more. A `gc` with a short grace period may have taken its pack. */
  async #recent(hash: string): Promise<ChunkRef | undefined> {
    const { recent, store, map } = this.#options;
    const found = recent.get(hash);
    if (found === undefined) return undefined;
    const { pack } = found;
    const isThere =
      this.#packsThere.get(pack) ?? store.head(map.pages.keys.pack(pack), { signal: this.#signal }).then((info) => info !== undefined);
    this.#packsThere.set(pack, isThere);
    if (await isThere) return found;
    recent.delete(hash);
    return undefined;
  }

  /** Packs are in the store before a page names them. */
  async #writeMap(): Promise<void> {
    await this.#packs.finish();
    const resolved = [...this.#changes].map(([block, ref]) => ({ block, ref: ref !== null && "pending" in ref ? resolveRef(ref) : ref }));
    this.#remember(this.#pending.values());
    const update = await this.#map.update(resolved, this.#signal);
    this.#map = update.map;
    this.#stats.pages += update.pages;
    this.#stats.bytesUploaded += update.bytesWritten;
    this.#changes = new Map();
    this.#pending = new Map();
    this.#pendingSince = this.#options.now();
  }

  #remember(written: Iterable<PendingRef>): void {
    for (const pending of written) this.#options.recent.add(resolveRef(pending), this.#pendingSince);
  }

  #packWritten(sizeBytes: number): void {
    this.#stats.packs++;
    this.#stats.bytesUploaded += sizeBytes;
    this.#options.onProgress?.({ ...this.#stats });
  }
}
