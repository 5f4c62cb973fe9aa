import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, type ChunkCache, type LocalState, type MapRoot, type PageStore, type RepairSource, sha256 } from "@hob/storage";
import { readExactly } from "../read-exactly.ts";
import type { CheckpointRecord } from "../volume/ledger.ts";
import type { ActiveThin } from "../volume/thin-pool.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { factsOf } from "./checkpoint-facts.ts";
import { rootOf } from "./origin-name.ts";
import { WrittenBlocks } from "./written-blocks.ts";

type Snapshots = Pick<ThinVolume, "ledger" | "pool" | "resolveOrigin" | "sizeBytes">;

export interface LocalSourceParts {
  volume: Snapshots;
  /** what was read of the store's maps, and written */
  pages: Pick<PageStore, "cached">;
  cache: ChunkCache | undefined;
}

interface OpenSnapshot {
  readonly active: ActiveThin;
  readonly file: FileHandle;
}

/**
 * What this machine still has of a sprite's states: chunks and pages that were fetched from the store once, and the snapshots.
 * A snapshot reads from the store what was never written here, so what comes out of it may be missing there too.
 */
export class LocalSource implements RepairSource, AsyncDisposable {
  readonly #parts: LocalSourceParts;
  readonly #written: WrittenBlocks;
  readonly #snapshots = new Map<string | null, Promise<OpenSnapshot | undefined>>();

  constructor(parts: LocalSourceParts) {
    this.#parts = parts;
    this.#written = new WrittenBlocks(parts.volume.pool);
  }

  async chunk(hash: string, block: number, checkpoint: string | null): Promise<Buffer | undefined> {
    const cached = await this.#parts.cache?.get(hash).catch(() => undefined);
    if (cached !== undefined && sha256(cached) === hash) return cached;
    return await this.#read(checkpoint, block);
  }

  async page(name: string): Promise<Buffer | undefined> {
    return this.#parts.pages.cached(name);
  }

  /** The newest state is what was uploaded last, unless the store has come to another since. */
  async state(checkpoint: string | null, root: MapRoot): Promise<LocalState | undefined> {
    const { ledger } = this.#parts.volume;
    if (checkpoint === null && ledger.state.uploaded?.root !== root) return undefined;
    const record = this.#recordOf(checkpoint);
    if (record === undefined) return undefined;
    const written = await this.#written.of(record.thin);
    if (!this.#isStill(checkpoint, record.thin)) return undefined;
    const known = checkpoint === null ? undefined : ledger.find(checkpoint);
    return {
      origin: rootOf(record.origin),
      written,
      read: (block) => this.#read(checkpoint, block),
      ...(known === undefined ? {} : { document: factsOf(known) }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const snapshot of this.#snapshots.values()) {
      const opened = await snapshot.catch(() => undefined);
      await opened?.file.close();
      await opened?.active[Symbol.asyncDispose]();
    }
  }

  /** undefined where there is nothing to read, and where it cannot be read: that it is damaged is known. */
  async #read(checkpoint: string | null, block: number): Promise<Buffer | undefined> {
    const snapshot = this.#snapshots.get(checkpoint) ?? this.#open(checkpoint);
    this.#snapshots.set(checkpoint, snapshot);
    const opened = await snapshot.catch(() => undefined);
    return opened === undefined ? undefined : await this.#readBlock(opened.file, block).catch(() => undefined);
  }

  /** The last block of a volume may be short of bytes, which are zeros to the store. */
  async #readBlock(file: FileHandle, block: number): Promise<Buffer> {
    const offset = block * BLOCK_BYTES;
    const data = await readExactly(file, offset, Math.min(BLOCK_BYTES, this.#parts.volume.sizeBytes - offset));
    return data.length === BLOCK_BYTES ? data : Buffer.concat([data], BLOCK_BYTES);
  }

  #recordOf(checkpoint: string | null): Pick<CheckpointRecord, "thin" | "origin"> | undefined {
    const { ledger } = this.#parts.volume;
    if (checkpoint !== null) return ledger.find(checkpoint);
    const { thin = null, origin = null } = ledger.state.uploaded ?? {};
    return thin === null ? undefined : { thin, origin };
  }

  /** Of one that is gone, some may have been given back: what it lacks now, it had. */
  #isStill(checkpoint: string | null, thin: number): boolean {
    return this.#recordOf(checkpoint)?.thin === thin;
  }

  async #open(checkpoint: string | null): Promise<OpenSnapshot | undefined> {
    const { volume } = this.#parts;
    const record = this.#recordOf(checkpoint);
    if (record === undefined) return undefined;
    const origin = record.origin === null ? undefined : await volume.resolveOrigin(record.origin);
    const active = await volume.pool.activateReadOnly(record.thin, origin);
    try {
      const file = await open(active.device, "r");
      if (this.#isStill(checkpoint, record.thin)) return { active, file };
      await file.close();
      await active[Symbol.asyncDispose]();
      return undefined;
    } catch (error) {
      await active[Symbol.asyncDispose]();
      throw error;
    }
  }
}
