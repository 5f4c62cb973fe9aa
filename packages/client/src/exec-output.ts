import { Readable } from "node:stream";

const OUTPUT_BUFFER_BYTES = 256 * 1024;

/** One output of a session: bytes are handed in as frames arrive; `wantsMore` tells when to stop handing in. */
export class SessionOutput extends Readable {
  readonly #onRead: () => void;
  wantsMore = true;

  constructor(onRead: () => void) {
    super({ highWaterMark: OUTPUT_BUFFER_BYTES });
    this.#onRead = onRead;
    // A reader that went away early does not need the rest, and must not hold up the other output.
    this.once("close", () => {
      this.wantsMore = true;
      onRead();
    });
  }

  /** @returns false when the buffer is full */
  deliver(bytes: Buffer): boolean {
    if (this.destroyed) return true;
    this.wantsMore = this.push(bytes);
    return this.wantsMore;
  }

  /** What is buffered can still be read. */
  end(): void {
    if (!this.destroyed && !this.readableEnded) this.push(null);
  }

  override _read(): void {
    if (this.wantsMore) return;
    this.wantsMore = true;
    this.#onRead();
  }
}
