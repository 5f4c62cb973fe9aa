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
import type { OutputReader, SessionClient } from "./output-reader.ts";
import type { SessionView } from "./session.ts";
import { signalNumber } from "./signals.ts";

/** Time for the client to answer the close frame, before the connection is cut. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Normal closure; try again later. RFC 6455 section 7.4.1, and its registry of close codes. */
const CLOSE_NORMAL = 1000;
const CLOSE_TRY_AGAIN = 1013;

const windowSide = z.number().int().min(1).max(65_535);
const textFrame = z.discriminatedUnion("type", [
  z.object({ type: z.literal("resize"), cols: windowSide, rows: windowSide }),
  z.object({ type: z.literal("signal"), signal: z.union([z.string().max(16), z.number().int()]).transform(String) }),
]);

/** Where a client that comes to a session begins; a new session has no such thing. */
export interface AttachPoint {
  readonly outputOffset: number;
  readonly firstOutputOffset: number;
}

/** A session's client at the other end of a WebSocket. */
export class WebSocketClient implements SessionClient {
  readonly #socket: WebSocket;
  readonly #stdin: boolean;
  readonly #session: SessionView;
  readonly #tty: boolean;
  #reader: OutputReader | undefined;
  #keepalive: NodeJS.Timeout | undefined;
  #outputPaused = false;

  /** @param stdin false: input and its end are ignored, as some clients send an end that was not meant */
  constructor(socket: WebSocket, session: SessionView, stdin: boolean) {
    this.#socket = socket;
    this.#session = session;
    this.#stdin = stdin;
    this.#tty = session.about.tty !== undefined;
  }

  /** Sends `session_info` as the first frame and begins to relay. @param point undefined: the client began the session */
  attach(point?: AttachPoint): void {
    const info = sessionInfo(this.#session, point);
    this.#reader = this.#session.attach(this, point?.outputOffset ?? 0);
    this.#socket.send(JSON.stringify(info));
    this.#keepalive = setTimeout(() => this.#sendKeepalive(), KEEPALIVE_INTERVAL_MS);
    this.#socket.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    this.#socket.on("error", () => this.#socket.terminate());
    this.#socket.on("close", () => this.#onClose());
    this.#reader.start();
  }

  output(stream: number, data: Buffer): boolean {
    this.#keepalive?.refresh();
    const frame = this.#tty ? data : Buffer.concat([Uint8Array.of(stream), data]);
    this.#socket.send(frame, () => this.#onSent());
    this.#outputPaused = this.#socket.bufferedAmount > LIMITS.outputHighWaterBytes;
    return !this.#outputPaused;
  }

  /**
   * WebSocket frames keep their order, so all output is ahead of the exit. Closing starts a timer, here and in `ws`; it
   * must not run while a slow client still has output to read.
   */
  ended(exitCode: number): void {
    clearTimeout(this.#keepalive);
    const frame: ExitFrame = { type: "exit", exit_code: exitCode, code: exitCode };
    this.#socket.resume();
    if (!this.#tty) this.#socket.send(Uint8Array.of(STREAM.exit, exitCode));
    this.#socket.send(JSON.stringify(frame), () => this.#close(this.#tty ? ttyCloseCode(exitCode) : CLOSE_NORMAL));
  }

  /** A client that takes nothing would not take the close frame either: it gets a moment for it. */
  cut(reason: string): void {
    clearTimeout(this.#keepalive);
    this.#socket.resume();
    this.#close(CLOSE_TRY_AGAIN, reason);
  }

  inputDrained(): void {
    this.#socket.resume();
  }

  #close(code: number, reason?: string): void {
    this.#socket.close(code, reason);
    setTimeout(() => this.#socket.terminate(), CLOSE_TIMEOUT_MS).unref();
  }

  #onSent(): void {
    if (!this.#outputPaused || this.#socket.bufferedAmount > LIMITS.outputHighWaterBytes / 2) return;
    this.#outputPaused = false;
    this.#reader?.wake();
  }

  /** Also finds out that a client has vanished while reading from it is paused: the write fails. */
  #sendKeepalive(): void {
    this.#socket.send('{"type":"keepalive"}');
    this.#keepalive?.refresh();
  }

  #onClose(): void {
    clearTimeout(this.#keepalive);
    this.#session.detach(this);
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    const bytes = data as Buffer;
    if (!isBinary) this.#onText(bytes.toString("utf8"));
    else if (!this.#stdin) return;
    else if (this.#tty) this.#input(bytes);
    else if (bytes[0] === STREAM.stdin) this.#input(bytes.subarray(1));
    else if (bytes[0] === STREAM.stdinEof) this.#session.endInput();
  }

  #input(bytes: Buffer): void {
    this.#session.input(bytes);
    if (this.#session.pendingInputBytes > LIMITS.inputHighWaterBytes) this.#socket.pause();
  }

  /** What is no frame of ours is ignored: other clients of this protocol send frames that we do not know. */
  #onText(text: string): void {
    const frame = parseTextFrame(text);
    if (frame?.type === "resize") this.#session.resize(frame);
    const number = frame?.type === "signal" ? signalNumber(frame.signal) : undefined;
    if (number !== undefined) this.#session.signal(number);
  }
}

function sessionInfo(session: SessionView, point: AttachPoint | undefined): SessionInfoFrame {
  const { command, created, tty } = session.about;
  return {
    type: "session_info",
    session_id: session.id,
    command,
    created: Math.floor(created / 1_000),
    cols: tty?.cols ?? 0,
    rows: tty?.rows ?? 0,
    is_owner: !session.hasOwner,
    tty: tty !== undefined,
    ...(point === undefined
      ? {}
      : { output_offset: point.outputOffset, first_output_offset: point.firstOutputOffset, input_offset: session.inputOffset }),
  };
}

export function parseTextFrame(text: string): ClientTextFrame | undefined {
  try {
    return textFrame.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
