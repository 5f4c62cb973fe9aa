import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { BlockReader } from "@hob/storage";
import { BLOCK_BYTES, MAX_READ_BLOCKS } from "@hob/storage";
import type { BlockSource } from "../block-server/block-server.ts";

const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 10_000;
/** Blocks that are fetched ahead of a read: neighbours mostly come by the same request. */
const AHEAD_BLOCKS = 16;

export interface MapSourceOptions {
  reader: BlockReader;
  sizeBytes: number;
  /** told the first block of each read, in order */
  onRead?: (block: number) => void;
  /** ends reads that wait for the store */
  signal: AbortSignal;
}

/**
 * A map of the store as the bytes of a device. A store that does not answer makes the reader wait, as a slow disk would:
 * an error would make the file system read-only for good. Damage is an error.
 */
export class MapSource implements BlockSource {
  readonly sizeBytes: number;
  readonly #options: MapSourceOptions;
  #aheadTo = -1;

  constructor(options: MapSourceOptions) {
    this.#options = options;
    this.sizeBytes = options.sizeBytes;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    this.#options.onRead?.(Math.floor(offset / BLOCK_BYTES));
    const parts: Buffer[] = [];
    const most = (MAX_READ_BLOCKS - 1) * BLOCK_BYTES;
    for (let at = offset; at < offset + length; at += most) {
      parts.push(await this.#patiently(() => this.#options.reader.readRange(at, Math.min(most, offset + length - at))));
    }
    this.#readAhead(Math.floor((offset + length - 1) / BLOCK_BYTES) + 1);
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  /** Whoever reads on finds it there; whoever does not has cost one request. */
  #readAhead(first: number): void {
    const last = Math.min(first + AHEAD_BLOCKS, this.sizeBytes / BLOCK_BYTES);
    if (first >= last || first <= this.#aheadTo) return;
    this.#aheadTo = last - 1;
    this.#options.reader.readBlocks(first, last - first).catch(() => {});
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS)) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof HobError) || !error.retryable || this.#options.signal.aborted) throw error;
      }
      await sleep(pauseMs, undefined, { signal: this.#options.signal });
    }
  }
}
