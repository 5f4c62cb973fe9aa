import { Readable, Writable } from "node:stream";
import { STREAM } from "@hob/protocol/exec.ts";
import type { WebSocket } from "ws";

/** Payload of one input frame; small enough that a signal frame is never stuck behind much data. */
const INPUT_FRAME_BYTES = 64 * 1024;
const OUTPUT_BUFFER_BYTES = 256 * 1024;
/** VEOF of a terminal as it is set by default, termios(3). */
const CONTROL_D = 0x04;
const LINE_FEED = 0x0a;

type Done = (error?: Error | null) => void;

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

/** The input of a session. A write is done when the kernel has taken it, so that a fast writer waits for a slow reader. */
export class SessionInput extends Writable {
  readonly #socket: WebSocket;
  readonly #tty: boolean;
  readonly #wanted: boolean;
  #lastByte = LINE_FEED;

  /** @param wanted whether the session was opened with an input at all; if not, writes are dropped */
  constructor(socket: WebSocket, tty: boolean, wanted: boolean) {
    super({ highWaterMark: INPUT_FRAME_BYTES });
    this.#socket = socket;
    this.#tty = tty;
    this.#wanted = wanted;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (!this.#wanted) {
      done();
      return;
    }
    this.#lastByte = chunk.at(-1) ?? this.#lastByte;
    this.#sendFrom(chunk, 0, done);
  }

  override _final(done: Done): void {
    if (!this.#wanted) done();
    else if (!this.#tty) this.#send(Uint8Array.of(STREAM.stdinEof), done);
    // A terminal has no end of input. Its VEOF character ends a read only at the start of a line; in the middle
    // of one the first pushes out the line and the second ends it, termios(3).
    else this.#send(this.#lastByte === LINE_FEED ? Uint8Array.of(CONTROL_D) : Uint8Array.of(CONTROL_D, CONTROL_D), done);
  }

  #sendFrom(chunk: Buffer, start: number, done: Done): void {
    if (start >= chunk.length) {
      done();
      return;
    }
    const part = chunk.subarray(start, start + INPUT_FRAME_BYTES);
    this.#send(this.#tty ? part : withStream(STREAM.stdin, part), (error) => {
      if (error) done(error);
      else this.#sendFrom(chunk, start + part.length, done);
    });
  }

  #send(frame: Uint8Array, done: Done): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(frame, { binary: true }, (error) => done(error ?? null));
    else done(new Error("the session has ended"));
  }
}

function withStream(stream: number, payload: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(1 + payload.length);
  frame[0] = stream;
  frame.set(payload, 1);
  return frame;
}
