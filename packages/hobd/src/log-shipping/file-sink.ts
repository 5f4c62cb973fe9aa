import { open } from "node:fs/promises";
import { type LogBatch, type LogSink, linesOf } from "./sink.ts";

/**
 * Appends to a file, one JSON object per line: `time` (RFC 3339), `sprite`, `sprite_id`, `service`, `stream`, `text`. The file
 * is opened for each batch, so that it may be renamed at any time, and flushed.
 */
export class FileSink implements LogSink {
  readonly #path: string;
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  write(batch: LogBatch): Promise<void> {
    const written = this.#last.then(() => this.#append(toLines(batch)));
    this.#last = written.catch(() => {});
    return written;
  }

  async #append(text: string): Promise<void> {
    const file = await open(this.#path, "a", 0o600);
    try {
      await file.appendFile(text);
      await file.datasync();
    } finally {
      await file.close();
    }
  }
}

function toLines({ spriteId, spriteName, blocks }: LogBatch): string {
  return blocks
    .flatMap((block) => {
      const { service, stream, timeMs } = block;
      const head = { time: new Date(timeMs).toISOString(), sprite: spriteName, sprite_id: spriteId, service, stream };
      return linesOf(block).map((text) => `${JSON.stringify({ ...head, text })}\n`);
    })
    .join("");
}
