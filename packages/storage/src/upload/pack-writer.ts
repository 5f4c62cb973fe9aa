import type { StoredChunk } from "../format/chunk-codec.ts";
import type { OrgKeys } from "../format/keys.ts";
import { PackBuilder, type SealedPack } from "../format/pack.ts";
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

/**
 * Fills packs with chunks and writes them. The memory of one that was written serves another: new memory is a page fault for each
 * 4 KiB, and makes the garbage collector run for what lies outside of its heap. `add` waits while as many PUTs are under way as
 * are allowed.
 */
export class PackWriter {
  readonly #options: PackWriterOptions;
  readonly #slots: Semaphore;
  readonly #puts = new Set<Promise<void>>();
  /** of packs that were written: as many as were in memory at a time */
  readonly #spare: Buffer[] = [];
  #open: OpenPack = { builder: new PackBuilder(), name: undefined, isWritten: false };

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
    const builder = pack.builder as PackBuilder;
    const sealed = builder.seal();
    pack.name = sealed.name;
    pack.builder = undefined;
    await this.#slots.acquire();
    this.#options.signal.throwIfAborted();
    this.#open = { builder: new PackBuilder(this.#spare.pop()), name: undefined, isWritten: false };
    const put = this.#put(pack, sealed, builder.memory).finally(() => {
      this.#slots.release();
      this.#puts.delete(put);
    });
    this.#puts.add(put);
  }

  async #put(pack: OpenPack, { name, bytes }: SealedPack, memory: Buffer): Promise<void> {
    const { store, keys, signal, onPack, onError } = this.#options;
    try {
      await store.put(keys.pack(name), bytes, { signal });
      pack.isWritten = true;
      // Not after a failure: somebody may still be sending it.
      this.#spare.push(memory);
      onPack(bytes.length);
    } catch (error) {
      onError(error);
    }
  }
}

/** The reference of a chunk whose pack was closed. */
export function resolveRef({ pending, hash, offset, storedBytes, encoding }: PendingRef): ChunkRef {
  if (pending.name === undefined) throw new Error("the pack is still open");
  return { hash, pack: pending.name, offset, storedBytes, encoding };
}
