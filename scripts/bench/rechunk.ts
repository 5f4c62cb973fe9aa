import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import { ChunkMap, type ChunkRef, PageStore } from "@hob/storage";
import { sha256 } from "@hob/storage/format/hash.ts";
import { BLOCK_BYTES, MAX_PACK_BYTES } from "@hob/storage/format/limits.ts";
import { planRuns } from "@hob/storage/read/runs.ts";
import { PackWriter, type PendingRef, resolveRef } from "@hob/storage/upload/pack-writer.ts";
import { MemoryStore } from "../../packages/storage/test/support/memory-store.ts";
import type { ChangedBlock } from "./volume-states.ts";

const compress = promisify(zstdCompress);
const ORG = "bench";
/** bytes that a sequential reader asks for at a time */
const WINDOW_BYTES = 1024 * 1024;
const READ_BYTES = 4096;

export interface Sizes {
  chunkBytes: number;
  packBytes: number;
}

/** What a volume's change costs in a store with these sizes. */
export interface RechunkResult extends Sizes {
  chunks: number;
  /** chunks before compression */
  plainBytes: number;
  /** packs and pages as stored */
  storedBytes: number;
  objects: number;
  /** everything that was changed, read again in the order of the disk, 1 MiB at a time */
  sequential: ReadCost;
  /** 4 KiB each at random places of what was changed, from a cache that is empty at first */
  random: ReadCost;
}

export interface ReadCost {
  requests: number;
  bytes: number;
}

/** A chunk of another size than the format's; `data` undefined: zeros. */
export interface Chunk {
  number: number;
  data: Buffer | undefined;
}

/**
 * Cuts changed blocks into chunks of another size. Smaller ones are left out where nothing differs; larger ones are filled up
 * with the neighbours, which `readBlock` gives.
 */
export async function* cut(
  changes: AsyncIterable<ChangedBlock>,
  chunkBytes: number,
  readBlock: (block: number) => Promise<Buffer>,
): AsyncGenerator<Chunk> {
  const perChunk = chunkBytes / BLOCK_BYTES;
  let last = -1;
  for await (const { block, before, after } of changes) {
    if (perChunk <= 1) {
      yield* pieces(block, before, after, chunkBytes);
      continue;
    }
    const number = Math.floor(block / perChunk);
    if (number === last) continue;
    last = number;
    const blocks = await Promise.all(Array.from({ length: perChunk }, (_, i) => readBlock(number * perChunk + i)));
    yield { number, data: nonZero(Buffer.concat(blocks)) };
  }
}

function* pieces(block: number, before: Buffer | undefined, after: Buffer | undefined, chunkBytes: number): Generator<Chunk> {
  for (let at = 0; at < BLOCK_BYTES; at += chunkBytes) {
    const now = after?.subarray(at, at + chunkBytes);
    const then = before?.subarray(at, at + chunkBytes);
    const data = now === undefined ? undefined : nonZero(now);
    const was = then === undefined ? undefined : nonZero(then);
    if (data === undefined ? was === undefined : was?.equals(data) === true) continue;
    yield { number: (block * BLOCK_BYTES + at) / chunkBytes, data };
  }
}

const ZEROS = Buffer.alloc(4 * 1024 * 1024);

const nonZero = (data: Buffer): Buffer | undefined => (data.equals(ZEROS.subarray(0, data.length)) ? undefined : data);

/** The chunk numbers that blocks of the format's size have with another size. */
export function* renumber(blocks: Iterable<number>, chunkBytes: number): Generator<number> {
  let last = -1;
  for (const block of blocks) {
    const first = Math.floor((block * BLOCK_BYTES) / chunkBytes);
    const count = Math.max(1, BLOCK_BYTES / chunkBytes);
    for (let number = first; number < first + count; number++) {
      if (number > last) yield number;
      last = Math.max(last, number);
    }
  }
}

/**
 * Uploads chunks with the pack writer and the chunk map of `packages/storage` into a store that counts, then plans the reads
 * of a host that has nothing.
 *
 * @param existing numbers of the chunks of the state before, ascending: the map has entries for them already
 * @param chunks ascending
 */
export async function rechunk(
  existing: Iterable<number>,
  chunks: AsyncIterable<Chunk>,
  { chunkBytes, packBytes }: Sizes,
): Promise<RechunkResult> {
  const store = new MemoryStore();
  const pages = new PageStore({ store, org: ORG, cachedPages: 1_000_000 });
  const base = (await new ChunkMap({ store, org: ORG, pages }).update(placeholders(existing))).map;
  store.objects.clear();
  const upload = new Upload(store, pages, { chunkBytes, packBytes });
  for await (const chunk of chunks) await upload.add(chunk);
  const refs = await upload.finish(base);
  let storedBytes = 0;
  for (const { data } of store.objects.values()) storedBytes += data.length;
  const counted = { chunks: upload.uploaded, plainBytes: upload.uploaded * chunkBytes, storedBytes, objects: store.objects.size };
  return { chunkBytes, packBytes, ...counted, sequential: readSequentially(refs, chunkBytes), random: readAtRandom(refs, chunkBytes) };
}

/** Entries of a page have the same size whatever they say. */
function* placeholders(existing: Iterable<number>): Generator<{ block: number; ref: ChunkRef }> {
  const zeros = "0".repeat(64);
  for (const block of existing) yield { block, ref: { hash: zeros, pack: zeros, offset: 24, storedBytes: 1, encoding: 1 } };
}

class Upload {
  /** chunks in packs: one of equal ones */
  uploaded = 0;
  readonly #chunkBytes: number;
  readonly #pages: PageStore;
  readonly #packs: PackWriter;
  readonly #byHash = new Map<string, PendingRef>();
  readonly #changes: { block: number; pending: PendingRef | null }[] = [];
  #error: unknown;

  constructor(store: MemoryStore, pages: PageStore, { chunkBytes, packBytes }: Sizes) {
    this.#chunkBytes = chunkBytes;
    this.#pages = pages;
    this.#packs = new PackWriter({
      store,
      keys: pages.keys,
      targetBytes: Math.min(packBytes, MAX_PACK_BYTES - 2 * chunkBytes),
      concurrentPuts: 1,
      signal: new AbortController().signal,
      onPack: () => {},
      onError: (error) => {
        this.#error = error;
      },
    });
  }

  async add({ number, data }: Chunk): Promise<void> {
    if (data === undefined) {
      this.#changes.push({ block: number, pending: null });
      return;
    }
    const hash = sha256(data);
    let pending = this.#byHash.get(hash);
    if (pending === undefined) {
      const packed = await compress(data, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
      const smaller = packed.length < this.#chunkBytes;
      pending = await this.#packs.add(hash, { encoding: smaller ? 1 : 0, bytes: smaller ? packed : data });
      this.#byHash.set(hash, pending);
      this.uploaded++;
    }
    this.#changes.push({ block: number, pending });
  }

  /** @returns the chunks that were changed and are not zeros, by number */
  async finish(base: ChunkMap): Promise<Map<number, ChunkRef>> {
    await this.#packs.finish();
    if (this.#error !== undefined) throw this.#error;
    const resolved = this.#changes.map(({ block, pending }) => ({ block, ref: pending === null ? null : resolveRef(pending) }));
    await new ChunkMap({ store: this.#pages.store, org: ORG, root: base.root, pages: this.#pages }).update(resolved);
    return new Map(resolved.flatMap(({ block, ref }) => (ref === null ? [] : [[block, ref] as const])));
  }
}

/** As the reader of the storage format would: neighbours in a pack come by one request. */
export function readSequentially(refs: ReadonlyMap<number, ChunkRef>, chunkBytes: number): ReadCost {
  const cost: ReadCost = { requests: 0, bytes: 0 };
  const windows = Map.groupBy(refs, ([number]) => Math.floor((number * chunkBytes) / Math.max(WINDOW_BYTES, chunkBytes)));
  const cached = new Set<string>();
  for (const group of windows.values()) {
    const missing = new Map(group.filter(([, { hash }]) => !cached.has(hash)).map(([, ref]) => [ref.hash, ref]));
    for (const hash of missing.keys()) cached.add(hash);
    for (const { length } of planRuns([...missing.values()])) {
      cost.requests++;
      cost.bytes += length;
    }
  }
  return cost;
}

const RANDOM_READS = 1_000;

/** Every chunk that a read touches is fetched whole, and only once. */
export function readAtRandom(refs: ReadonlyMap<number, ChunkRef>, chunkBytes: number): ReadCost {
  const all = [...refs.values()];
  const places = (all.length * chunkBytes) / READ_BYTES;
  const cached = new Set<string>();
  const cost: ReadCost = { requests: 0, bytes: 0 };
  // Numerical Recipes' linear congruential generator: the same places in every run.
  let seed = 1;
  for (let i = 0; i < RANDOM_READS && places > 0; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const ref = all[Math.floor(((seed / 2 ** 32) * places * READ_BYTES) / chunkBytes)] as ChunkRef;
    if (cached.has(ref.hash)) continue;
    cached.add(ref.hash);
    cost.requests++;
    cost.bytes += ref.storedBytes;
  }
  return cost;
}
