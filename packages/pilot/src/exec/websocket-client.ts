import {
  type ClientTextFrame,
  type ExitFrame,
  KEEPALIVE_INTERVAL_MS,
  LIMITS,
  type SessionInfoFrame,
  STREAM,
  ttyCloseCode,
} from "@hob/protocol";
import type { RawData, WebSocket } from "ws";
import { z } from "zod";
import type { Session, SessionClient } from "./sessions.ts";
import { signalNumber } from "./signals.ts";

/** Time for the client to answer the close frame, before the connection is cut. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Normal closure, RFC 6455 section 7.4.1. */
const CLOSE_NORMAL = 1000;

const windowSide = z.number().int().min(1).max(65_535);
const textFrame = z.discriminatedUnion("type", [
  z.object({ type: z.literal("resize"), cols: windowSide, rows: windowSide }),
  z.object({ type: z.literal("signal"), signal: z.union([z.string().max(16), z.number().int()]).transform(String) }),
]);

/** A session's client at the other end of a WebSocket. */
export class WebSocketClient implements SessionClient {
  readonly #socket: WebSocket;
  readonly #stdin: boolean;
  #session: Session | undefined;
  #keepalive: NodeJS.Timeout | undefined;
  #outputPaused = false;

  /** @param stdin false: input and its end are ignored, as some clients send an end that was not meant */
  constructor(socket: WebSocket, stdin: boolean) {
    this.#socket = socket;
    this.#stdin = stdin;
  }

  /** Sends `session_info` as the first frame and begins to relay. */
  attach(session: Session): void {
    this.#session = session;
    const info: SessionInfoFrame = {
      type: "session_info",
      session_id: session.id,
      command: session.command,
      created: Math.floor(session.created.getTime() / 1_000),
      cols: session.tty?.cols ?? 0,
      rows: session.tty?.rows ?? 0,
      is_owner: true,
      tty: session.tty !== undefined,
    };
    this.#socket.send(JSON.stringify(info));
    this.#keepalive = setTimeout(() => this.#sendKeepalive(), KEEPALIVE_INTERVAL_MS);
    this.#socket.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    this.#socket.on("error", () => this.#socket.terminate());
    this.#socket.on("close", () => this.#onClose());
    session.process.onInputDrain(() => this.#socket.resume());
    if (!this.#stdin) session.process.end();
    session.start();
  }

  stdout(chunk: Buffer): void {
    this.#sendOutput(STREAM.stdout, chunk);
  }

  stderr(chunk: Buffer): void {
    this.#sendOutput(STREAM.stderr, chunk);
  }

  /**
   * WebSocket frames keep their order, so all output is ahead of the exit. Closing starts a timer, here and in `ws`; it
   * must not run while a slow client still has output to read.
   */
  ended(exitCode: number): void {
    clearTimeout(this.#keepalive);
    const tty = this.#session?.tty !== undefined;
    const frame: ExitFrame = { type: "exit", exit_code: exitCode, code: exitCode };
    this.#session = undefined;
    this.#socket.resume();
    if (!tty) this.#socket.send(Uint8Array.of(STREAM.exit, exitCode));
    this.#socket.send(JSON.stringify(frame), () => {
      this.#socket.close(tty ? ttyCloseCode(exitCode) : CLOSE_NORMAL);
      setTimeout(() => this.#socket.terminate(), CLOSE_TIMEOUT_MS).unref();
    });
  }

  #sendOutput(stream: number, chunk: Buffer): void {
    this.#keepalive?.refresh();
    const data = this.#session?.tty === undefined ? Buffer.concat([Uint8Array.of(stream), chunk]) : chunk;
    this.#socket.send(data, () => this.#onSent());
    if (this.#socket.bufferedAmount <= LIMITS.outputHighWaterBytes) return;
    this.#outputPaused = true;
    this.#session?.process.pause();
  }

  #onSent(): void {
    if (!this.#outputPaused || this.#socket.bufferedAmount > LIMITS.outputHighWaterBytes / 2) return;
    this.#outputPaused = false;
    this.#session?.process.resume();
  }

  /** Also finds out that a client has vanished while reading from it is paused: the write fails. */
  #sendKeepalive(): void {
    this.#socket.send('{"type":"keepalive"}');
    this.#keepalive?.refresh();
  }

  #onClose(): void {
    clearTimeout(this.#keepalive);
    this.#session?.disconnect();
    this.#session = undefined;
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    const bytes = data as Buffer;
    if (!isBinary) this.#onText(bytes.toString("utf8"));
    else if (this.#session === undefined || !this.#stdin) return;
    else if (this.#session.tty !== undefined) this.#input(bytes);
    else if (bytes[0] === STREAM.stdin) this.#input(bytes.subarray(1));
    else if (bytes[0] === STREAM.stdinEof) this.#session.process.end();
  }

  #input(bytes: Buffer): void {
    const process = this.#session?.process;
    process?.write(bytes);
    if (process !== undefined && process.pendingInputBytes > LIMITS.inputHighWaterBytes) this.#socket.pause();
  }

  /** What is no frame of ours is ignored: other clients of this protocol send frames that we do not know. */
  #onText(text: string): void {
    const frame = parseTextFrame(text);
    const process = this.#session?.process;
    if (frame?.type === "resize") process?.resize(frame);
    const number = frame?.type === "signal" ? signalNumber(frame.signal) : undefined;
    if (number !== undefined) process?.signal(number);
  }
}

export function parseTextFrame(text: string): ClientTextFrame | undefined {
  try {
    return textFrame.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
