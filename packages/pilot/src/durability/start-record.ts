import { MAX_START_BLOCKS, type ObjectStore, readStart, type SpriteKeys, writeStart } from "@hob/storage";
import type { Logger } from "pino";
import type { Blocks } from "../block-server/read-ahead.ts";

export interface StartRecordParts {
  store: ObjectStore;
  keys: SpriteKeys;
  spriteId: string;
  log: Pick<Logger, "info" | "warn">;
  /** from the first read on */
  recordedMs: number;
}

/** What the last start from the store read, and what this one reads, for the next. */
export class StartRecord implements Disposable {
  readonly #parts: StartRecordParts;
  readonly #blocks = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(parts: StartRecordParts) {
    this.#parts = parts;
  }

  /** Blocks in the order in which the last start read them; none when that is not known. */
  async ofLastStart(): Promise<number[]> {
    const { store, keys, log } = this.#parts;
    return readStart(store, keys).catch((err: unknown) => {
      log.warn({ err }, "what the last start has read cannot be had");
      return [];
    });
  }

  /** To be called for each read of the volume in use, from its first on. */
  note({ first, count }: Blocks): void {
    if (this.#isOver) return;
    this.#timer ??= setTimeout(() => void this.#finish(), this.#parts.recordedMs).unref();
    for (let block = first; block < first + count && this.#blocks.size < MAX_START_BLOCKS; block++) this.#blocks.add(block);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #finish(): Promise<void> {
    this.#isOver = true;
    const { store, keys, spriteId, log } = this.#parts;
    try {
      await writeStart(store, keys, spriteId, [...this.#blocks]);
      log.info({ blocks: this.#blocks.size }, "what this start has read is recorded");
    } catch (err) {
      log.warn({ err }, "what this start has read cannot be recorded");
    }
  }
}
