import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, type ChunkCache, type RepairSource, sha256 } from "@hob/storage";
import type { ActiveThin } from "../volume/thin-pool.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";

type Snapshots = Pick<ThinVolume, "ledger" | "pool" | "resolveOrigin">;

interface OpenSnapshot {
  readonly active: ActiveThin;
  readonly file: FileHandle;
}

/**
 * What this machine still has of a sprite's states: chunks that were fetched from the store once, and the snapshots. A
 * snapshot reads from the store what was never written here, so what comes out of it may be missing there too.
 */
export class LocalSource implements RepairSource, AsyncDisposable {
  readonly #volume: Snapshots;
  readonly #cache: ChunkCache | undefined;
  readonly #snapshots = new Map<string | null, Promise<OpenSnapshot | undefined>>();

  constructor(volume: Snapshots, cache: ChunkCache | undefined) {
    this.#volume = volume;
    this.#cache = cache;
  }

  async chunk(hash: string, block: number, checkpoint: string | null): Promise<Buffer | undefined> {
    const cached = await this.#cache?.get(hash).catch(() => undefined);
    if (cached !== undefined && sha256(cached) === hash) return cached;
    const snapshot = this.#snapshots.get(checkpoint) ?? this.#open(checkpoint);
    this.#snapshots.set(checkpoint, snapshot);
    // A device that cannot be read has nothing; that it is damaged is known.
    const opened = await snapshot.catch(() => undefined);
    return opened === undefined ? undefined : await readBlock(opened.file, block).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const snapshot of this.#snapshots.values()) {
      const opened = await snapshot.catch(() => undefined);
      await opened?.file.close();
      await opened?.active[Symbol.asyncDispose]();
    }
  }

  async #open(checkpoint: string | null): Promise<OpenSnapshot | undefined> {
    const { ledger, pool } = this.#volume;
    const record = checkpoint === null ? ledger.state.uploaded : ledger.find(checkpoint);
    if (record === null || record === undefined) return undefined;
    const origin = record.origin === null ? undefined : await this.#volume.resolveOrigin(record.origin);
    const active = await pool.activateReadOnly(record.thin, origin);
    try {
      return { active, file: await open(active.device, "r") };
    } catch (error) {
      await active[Symbol.asyncDispose]();
      throw error;
    }
  }
}

async function readBlock(file: FileHandle, block: number): Promise<Buffer> {
  const data = Buffer.alloc(BLOCK_BYTES);
  for (let length = 0; length < data.length; ) {
    const { bytesRead } = await file.read(data, length, data.length - length, block * BLOCK_BYTES + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return data;
}
