/** Bytes after which a line without an end is cut. */
export const LINE_BYTES_MAX = 16 * 1024;

const LINE_FEED = 0x0a;
const FEED = Buffer.of(LINE_FEED);

/** Makes whole lines of a stream of bytes. What has no end yet is kept until it gets one, is too long, or the stream ends. */
export class LineSplitter {
  readonly #emit: (lines: Buffer) => void;
  #partial: Buffer = Buffer.alloc(0);

  /** @param emit gets one or more lines, each with its line feed; the bytes are its own to keep */
  constructor(emit: (lines: Buffer) => void) {
    this.#emit = emit;
  }

  push(chunk: Buffer): void {
    const bytes = this.#partial.length === 0 ? chunk : Buffer.concat([this.#partial, chunk]);
    const parts: Buffer[] = [];
    let start = 0;
    // From line feed to line feed, as far apart as they may be: few steps, however short the lines are.
    while (bytes.length - start > LINE_BYTES_MAX) {
      const feed = bytes.lastIndexOf(LINE_FEED, start + LINE_BYTES_MAX);
      const end = feed >= start ? feed + 1 : characterStart(bytes, start + LINE_BYTES_MAX);
      parts.push(bytes.subarray(start, end));
      if (feed < start) parts.push(FEED);
      start = end;
    }
    const end = bytes.lastIndexOf(LINE_FEED) + 1;
    if (end > start) parts.push(bytes.subarray(start, end));
    this.#partial = Buffer.from(bytes.subarray(Math.max(start, end)));
    if (parts.length > 0) this.#emit(Buffer.concat(parts));
  }

  /** The stream has ended: what has no end is a line too. */
  end(): void {
    if (this.#partial.length > 0) this.#emit(Buffer.concat([this.#partial, FEED]));
    this.#partial = Buffer.alloc(0);
  }
}

/** The last place at or before `at` that is not inside of a UTF-8 character, RFC 3629; `at` itself in what is not UTF-8. */
function characterStart(bytes: Buffer, at: number): number {
  for (let start = at; start > at - 4; start--) if (((bytes[start] ?? 0) & 0xc0) !== 0x80) return start;
  return at;
}
