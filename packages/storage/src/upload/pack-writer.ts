import type { StoredChunk } from "../format/chunk-codec.ts";
import type { OrgKeys } from "../format/keys.ts";
import { PackBuilder } from "../format/pack.ts";
import type { ChunkRef } from "../map/chunk-ref.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { Semaphore } from "../util/concurrency.ts";

/** A chunk in a pack that has no name yet. */
export interface PendingRef {
  readonly pending: OpenPack;
  readonly hash: string;
  readonly offset: number;
  readonly storedBytes: number;
  readonly encoding: StoredChunk["encoding"];
}

interface OpenPack {
  builder: PackBuilder | undefined;
  name: string | undefined;
  isWritten: boolean;
}

export interface PackWriterOptions {
  store: ObjectStore;
  keys: OrgKeys;
  /** a pack is closed when it reaches this size */
  targetBytes: number;
  /** PUTs under way at the same time; as many packs are in memory, and one that is being filled */
  concurrentPuts: number;
  signal: AbortSignal;
  onPack: (sizeBytes: number) => void;
  onError: (error: unknown) => void;
}

/** Fills packs with chunks and writes them. `add` waits while as many PUTs are under way as are allowed. */
export class PackWriter {
  readonly #options: PackWriterOptions;
  readonly #slots: Semaphore;
  readonly #puts = new Set<Promise<void>>();
  #open = newPack();

  constructor(options: PackWriterOptions) {
    this.#options = options;
    this.#slots = new Semaphore(options.concurrentPuts);
  }

  async add(hash: string, chunk: StoredChunk): Promise<PendingRef> {
    if (this.#open.builder?.fits(chunk) === false) await this.#close();
    const pending = this.#open;
    const offset = (pending.builder as PackBuilder).add(hash, chunk);
    const ref = { pending, hash, offset, storedBytes: chunk.bytes.length, encoding: chunk.encoding };
    if ((pending.builder as PackBuilder).sizeBytes >= this.#options.targetBytes) await this.#close();
    return ref;
  }

  /** Returns when every chunk so far is in the store. */
  async finish(): Promise<void> {
    if ((this.#open.builder as PackBuilder).chunks > 0) await this.#close();
    await this.settled();
    this.#options.signal.throwIfAborted();
  }

  /** Returns when no PUT is under way any more, whatever came of it. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#puts]);
  }

  async #close(): Promise<void> {
    const pack = this.#open;
    const sealed = (pack.builder as PackBuilder).seal();
    pack.name = sealed.name;
    pack.builder = undefined;
    this.#open = newPack();
    await this.#slots.acquire();
    this.#options.signal.throwIfAborted();
    const put = this.#put(pack, sealed).finally(() => {
      this.#slots.release();
      this.#puts.delete(put);
    });
    this.#puts.add(put);
  }

  async #put(pack: OpenPack, { name, bytes }: { name: string; bytes: Buffer }): Promise<void> {
    const { store, keys, signal, onPack, onError } = this.#options;
    try {
      await store.put(keys.pack(name), bytes, { signal });
      pack.isWritten = true;
      onPack(bytes.length);
    } catch (error) {
      onError(error);
    }
  }
}

const newPack = (): OpenPack => ({ builder: new PackBuilder(), name: undefined, isWritten: false });

/** The reference of a chunk whose pack was closed. */
export function resolveRef({ pending, hash, offset, storedBytes, encoding }: PendingRef): ChunkRef {
  if (pending.name === undefined) throw new Error("the pack is still open");
  return { hash, pack: pending.name, offset, storedBytes, encoding };
}
