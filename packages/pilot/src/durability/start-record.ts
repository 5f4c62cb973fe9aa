import { MAX_START_BLOCKS, type ObjectStore, readStart, type SpriteKeys, type StartReads, writeStart } from "@hob/storage";
import type { Logger } from "pino";
import type { Blocks } from "../block-server/read-ahead.ts";

export interface StartRecordParts {
  store: ObjectStore;
  keys: SpriteKeys;
  spriteId: string;
  log: Pick<Logger, "info" | "warn">;
  /** how long after the sprite runs reads still count as the start's */
  recordedMs: number;
}

/** What the last start from the store read, and what this one reads, for the next. */
export class StartRecord implements Disposable {
  readonly #parts: StartRecordParts;
  readonly #blocks = new Set<number>();
  #untilReady: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(parts: StartRecordParts) {
    this.#parts = parts;
  }

  /** undefined: that is not known */
  async ofLastStart(): Promise<StartReads | undefined> {
    const { store, keys, log } = this.#parts;
    return readStart(store, keys).catch((err: unknown) => {
      log.warn({ err }, "what the last start has read cannot be had");
      return undefined;
    });
  }

  /** To be called for each read of the volume in use, from its first on. */
  note({ first, count }: Blocks): void {
    for (let block = first; block < first + count && !this.#isOver && this.#blocks.size < MAX_START_BLOCKS; block++)
      this.#blocks.add(block);
  }

  /** The sprite runs. */
  ready(): void {
    if (this.#untilReady !== undefined || this.#isOver) return;
    this.#untilReady = this.#blocks.size;
    this.#timer = setTimeout(() => void this.#finish(), this.#parts.recordedMs).unref();
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #finish(): Promise<void> {
    this.#isOver = true;
    const { store, keys, spriteId, log } = this.#parts;
    const untilReady = this.#untilReady ?? 0;
    if (this.#blocks.size === 0) return;
    try {
      await writeStart(store, keys, spriteId, { blocks: [...this.#blocks], untilReady });
      log.info({ blocks: this.#blocks.size, untilReady }, "what this start has read is recorded");
    } catch (err) {
      log.warn({ err }, "what this start has read cannot be recorded");
    }
  }
}
