import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import type { BlockReader } from "@hob/storage";
import { BLOCK_BYTES, MAX_READ_BLOCKS } from "@hob/storage";
import type { BlockSource } from "../block-server/block-server.ts";
import { type Blocks, ReadAhead } from "../block-server/read-ahead.ts";

const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 10_000;

export interface MapSourceOptions {
  reader: BlockReader;
  sizeBytes: number;
  /** told each read, in order */
  onRead?: (blocks: Blocks) => void;
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
  readonly #readAhead: ReadAhead;

  constructor(options: MapSourceOptions) {
    this.#options = options;
    this.sizeBytes = options.sizeBytes;
    this.#readAhead = new ReadAhead(options.sizeBytes / BLOCK_BYTES);
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const { reader, onRead } = this.#options;
    const first = Math.floor(offset / BLOCK_BYTES);
    const blocks = { first, count: Math.ceil((offset + length) / BLOCK_BYTES) - first };
    onRead?.(blocks);
    const parts: Promise<Buffer>[] = [];
    const most = (MAX_READ_BLOCKS - 1) * BLOCK_BYTES;
    for (let at = offset; at < offset + length; at += most) {
      parts.push(this.#patiently(() => reader.readRange(at, Math.min(most, offset + length - at))));
    }
    const ahead = this.#readAhead.note(blocks);
    if (ahead !== undefined) reader.fetchAhead(Array.from({ length: ahead.count }, (_, index) => ahead.first + index)).catch(() => {});
    const [whole, ...rest] = await Promise.all(parts);
    return rest.length === 0 ? (whole as Buffer) : Buffer.concat([whole as Buffer, ...rest]);
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
