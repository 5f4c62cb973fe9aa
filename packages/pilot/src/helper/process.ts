import type { Socket } from "node:net";
import { HobError } from "@hob/protocol";
import { helperError } from "./connection.ts";
import { encodeWindowSize, type WindowSize } from "./exec-request.ts";
import { encodeFrame, type Frame, type FrameDecoder } from "./frames.ts";
import { CLIENT_FRAME, EXIT_FLAG_CONTAINER_GONE, HELPER_LIMITS, SERVER_FRAME } from "./wire.ts";

/** What a process writes. With a terminal, everything is standard output. */
export interface OutputSink {
  stdout(chunk: Buffer): void;
  stderr(chunk: Buffer): void;
}

export interface ProcessExit {
  /** exit status, or 128 + number of the signal */
  readonly code: number;
  /** the process was killed because its container ended */
  readonly containerGone: boolean;
}

/**
 * One process under the helper's supervision. It starts paused: nothing is delivered before {@link HelperProcess.start},
 * and all output is delivered before `exited` settles.
 */
export class HelperProcess {
  /** process id in the root namespace, also of its session and process group */
  readonly pid: number;
  /** @throws HobError `helper_unreachable` | `helper_failed` if the helper was lost before the end */
  readonly exited: Promise<ProcessExit>;
  readonly #socket: Socket;
  readonly #decoder: FrameDecoder;
  readonly #queue: Buffer[] = [];
  #queuedBytes = 0;
  #windowBytes: number = HELPER_LIMITS.stdinWindowBytes;
  #inputEnded = false;
  #eofSent = false;
  #paused = true;
  #settled = false;
  /** why the connection ended, while frames of it are still to be delivered */
  #lost: HobError | undefined;
  #sink: OutputSink | undefined;
  #onDrain: (() => void) | undefined;
  #settle!: { resolve(exit: ProcessExit): void; reject(error: HobError): void };

  constructor(socket: Socket, decoder: FrameDecoder, pid: number) {
    this.pid = pid;
    this.#socket = socket;
    this.#decoder = decoder;
    this.exited = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever never awaits `exited` must not bring the pilot down with it.
    this.exited.catch(() => {});
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("error", (error) => this.#lose(`helper: ${error.message}`, error));
    socket.on("close", () => this.#lose("helper: the connection ended before the process did"));
    if (socket.destroyed) this.#lose("helper: the connection ended as the process started");
  }

  /** Delivers output from now on. */
  start(sink: OutputSink): void {
    this.#sink = sink;
    this.resume();
  }

  /** Stops delivery, and with it, once the buffers are full, the process. */
  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#deliver();
    if (!this.#paused) this.#socket.resume();
  }

  /** Bytes given to `write` that are not yet on their way. */
  get pendingInputBytes(): number {
    return this.#queuedBytes;
  }

  /** Queues standard input; never refuses. Callers watch `pendingInputBytes` and `onInputDrain`. */
  write(data: Uint8Array): void {
    if (this.#inputEnded || this.#settled) return;
    for (let at = 0; at < data.length; at += HELPER_LIMITS.frameBytes) {
      const part = data.subarray(at, at + HELPER_LIMITS.frameBytes);
      this.#queue.push(Buffer.from(part.buffer, part.byteOffset, part.length));
    }
    this.#queuedBytes += data.length;
    this.#flushInput();
  }

  /** End of standard input, after what was written. Without effect on a terminal. */
  end(): void {
    this.#inputEnded = true;
    this.#flushInput();
  }

  /** Calls back each time the queue of standard input has become empty. */
  onInputDrain(callback: () => void): void {
    this.#onDrain = callback;
  }

  resize(size: WindowSize): void {
    this.#send(CLIENT_FRAME.resize, encodeWindowSize(size));
  }

  /** @param number 1 to 64; to the process group, or to a terminal's foreground group */
  signal(number: number): void {
    this.#send(CLIENT_FRAME.signal, Uint8Array.of(number));
  }

  /** To every group that a hang-up reaches: the terminal's foreground group and the process's own. @param number 1 to 64 */
  endAll(number: number): void {
    this.#send(CLIENT_FRAME.end, Uint8Array.of(number));
  }

  /** Hangs up: SIGHUP now, SIGKILL after 5 s. Also frees the connection. `exited` rejects unless it has settled. */
  close(): void {
    this.#fail(new HobError("helper_unreachable", "helper: the pilot gave the process up"));
    this.#socket.destroy();
  }

  #send(type: number, payload?: Uint8Array): void {
    if (!this.#settled && this.#socket.writable) this.#socket.write(encodeFrame(type, payload));
  }

  /** Sends no more input than the window allows, so that signals never wait behind input that nobody reads. */
  #flushInput(): void {
    const hadInput = this.#queuedBytes > 0;
    while (this.#windowBytes > 0) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      const part = next.subarray(0, this.#windowBytes);
      if (part.length < next.length) this.#queue.unshift(next.subarray(part.length));
      this.#windowBytes -= part.length;
      this.#queuedBytes -= part.length;
      this.#send(CLIENT_FRAME.stdin, part);
    }
    if (this.#queuedBytes > 0) return;
    if (this.#inputEnded && !this.#eofSent) {
      this.#eofSent = true;
      this.#send(CLIENT_FRAME.stdinEof);
    }
    if (hadInput) this.#onDrain?.();
  }

  #onData(chunk: Buffer): void {
    this.#decoder.push(chunk);
    if (!this.#paused) this.#deliver();
  }

  #deliver(): void {
    try {
      while (!this.#paused && !this.#settled) {
        const frame = this.#decoder.next();
        if (frame === undefined) break;
        this.#take(frame);
      }
      if (!this.#paused && this.#lost !== undefined) this.#fail(this.#lost);
    } catch (error) {
      this.#fail(error instanceof HobError ? error : new HobError("internal", "deliver output", { cause: error }));
    }
  }

  #take({ type, payload }: Frame): void {
    if (type === SERVER_FRAME.stdout) this.#sink?.stdout(payload);
    else if (type === SERVER_FRAME.stderr) this.#sink?.stderr(payload);
    else if (type === SERVER_FRAME.exit) this.#finish(payload);
    else if (type === SERVER_FRAME.error) this.#fail(helperError(payload));
    else if (type === SERVER_FRAME.window) this.#widen(payload.readUInt32LE(0));
    else throw new HobError("helper_failed", `helper: unexpected frame of type ${type}`);
  }

  #widen(bytes: number): void {
    this.#windowBytes += bytes;
    this.#flushInput();
  }

  #finish(payload: Buffer): void {
    this.#settled = true;
    this.#settle.resolve({ code: payload.readUInt8(0), containerGone: (payload.readUInt8(1) & EXIT_FLAG_CONTAINER_GONE) !== 0 });
    this.#socket.destroy();
  }

  /** The connection may end while delivery is paused: what it brought, perhaps EXIT, is delivered first. */
  #lose(message: string, cause?: Error): void {
    this.#lost ??= new HobError("helper_unreachable", message, cause === undefined ? {} : { cause });
    this.#deliver();
  }

  #fail(error: HobError): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#settle.reject(error);
    this.#socket.destroy();
  }
}
