import { Writable } from "node:stream";
import { STREAM } from "@hob/protocol/exec.ts";
import type { WebSocket } from "ws";

/** Payload of one input frame; small enough that a signal frame is never stuck behind much data. */
const INPUT_FRAME_BYTES = 64 * 1024;
/** VEOF of a terminal as it is set by default, termios(3). */
const CONTROL_D = 0x04;
const LINE_FEED = 0x0a;
/** Input that is kept to be sent again: more than the kernels and proxies on the way hold. */
const REPLAY_BYTES = 16 * 1024 * 1024;

type Done = (error?: Error | null) => void;

export interface InputOptions {
  /** whether the session was opened with an input at all; if not, writes are dropped */
  readonly wanted: boolean;
  /** whether the connection may be replaced by another, which goes on where the first broke off */
  readonly resumable: boolean;
}

/** The input of a session. A write is done when the kernel has taken it, so that a fast writer waits for a slow reader. */
export class SessionInput extends Writable {
  /** set when the session says what it is */
  tty = false;
  readonly #options: InputOptions;
  readonly #kept: Buffer[] = [];
  #socket: WebSocket | undefined;
  #keptBytes = 0;
  /** bytes of input of the session up to the last of ours */
  #offset = 0;
  #eof = false;
  #lastByte = LINE_FEED;
  /** of a write that waits for a connection */
  #waiting: (() => void) | undefined;

  constructor(socket: WebSocket, options: InputOptions) {
    super({ highWaterMark: INPUT_FRAME_BYTES });
    this.#socket = socket;
    this.#options = options;
  }

  /** @param offset input that the session had taken before this client came */
  begin(offset: number): void {
    this.#offset += offset;
  }

  /** The connection is gone: writes wait for the next. */
  lose(): void {
    this.#socket = undefined;
  }

  /**
   * Goes on over another connection.
   * @param taken bytes that the session has taken; what it did not get is sent again
   * @returns false if that is no more at hand
   */
  resume(socket: WebSocket, taken: number): boolean {
    let missing = Math.max(0, this.#offset - taken);
    if (missing > this.#keptBytes) return false;
    this.#socket = socket;
    const again: Buffer[] = [];
    for (let i = this.#kept.length - 1; i >= 0 && missing > 0; i--) {
      const bytes = this.#kept[i] as Buffer;
      again.unshift(bytes.subarray(Math.max(0, bytes.length - missing)));
      missing -= Math.min(missing, bytes.length);
    }
    for (const bytes of again) socket.send(this.#frame(bytes), { binary: true });
    if (this.#eof) socket.send(Uint8Array.of(STREAM.stdinEof));
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
    return true;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (!this.#options.wanted) {
      done();
      return;
    }
    this.#lastByte = chunk.at(-1) ?? this.#lastByte;
    this.#sendFrom(chunk, 0, done);
  }

  override _final(done: Done): void {
    if (!this.#options.wanted) done();
    // A terminal has no end of input. Its VEOF character ends a read only at the start of a line; in the middle
    // of one the first pushes out the line and the second ends it, termios(3).
    else if (this.tty) this.#sendFrom(Buffer.alloc(this.#lastByte === LINE_FEED ? 1 : 2, CONTROL_D), 0, done);
    else {
      this.#eof = true;
      this.#send(Uint8Array.of(STREAM.stdinEof), done);
    }
  }

  #sendFrom(chunk: Buffer, start: number, done: Done): void {
    if (start >= chunk.length) {
      done();
      return;
    }
    const part = chunk.subarray(start, start + INPUT_FRAME_BYTES);
    this.#keep(part);
    this.#send(this.#frame(part), (error) => {
      if (error) done(error);
      else this.#sendFrom(chunk, start + part.length, done);
    });
  }

  /** What cannot be sent now is sent by `resume`, from what is kept. */
  #send(frame: Uint8Array, done: Done): void {
    const socket = this.#socket;
    if (socket !== undefined && socket.readyState === socket.OPEN) {
      socket.send(frame, { binary: true }, (error) => (error ? this.#notSent(socket, done) : done()));
    } else this.#notSent(socket, done);
  }

  #notSent(socket: WebSocket | undefined, done: Done): void {
    if (!this.#options.resumable) done(new Error("the session has ended"));
    else if (this.#socket !== undefined && this.#socket !== socket) done();
    else this.#waiting = done;
  }

  #frame(bytes: Buffer): Uint8Array {
    return this.tty ? bytes : Buffer.concat([Uint8Array.of(STREAM.stdin), bytes]);
  }

  #keep(bytes: Buffer): void {
    this.#offset += bytes.length;
    if (!this.#options.resumable) return;
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    while (this.#keptBytes > REPLAY_BYTES) this.#keptBytes -= this.#kept.shift()?.length ?? 0;
  }
}
