import type { Readable, Writable } from "node:stream";
import { HobError } from "@hob/protocol/errors.ts";
import { type ClientTextFrame, type SessionInfoFrame, STREAM } from "@hob/protocol/exec.ts";
import type { RawData, WebSocket } from "ws";
import { connectionError } from "./errors.ts";
import { SessionInput, SessionOutput } from "./exec-streams.ts";
import { parseTextFrame } from "./frames.ts";
import type { Endpoint } from "./http.ts";
import { dial } from "./web-socket.ts";

export interface TtySize {
  cols: number;
  rows: number;
}

export interface ExecOptions {
  /** program and arguments; empty means the server's default, a login shell */
  command: readonly string[];
  /** working directory inside the sprite; default: the user's home */
  dir?: string | undefined;
  /** added to the sprite's environment */
  env?: Readonly<Record<string, string>> | undefined;
  /** run on a pseudo-terminal of this size: stdout and stderr are then one raw stream */
  tty?: TtySize | undefined;
  /** whether `stdin` will be used; without it the command reads an empty input */
  stdin?: boolean;
  /** bound on connecting, including the time a sleeping sprite takes to wake; default 60 s */
  connectTimeoutMs?: number;
}

export interface ExecResult {
  exitCode: number;
  stdout: Buffer;
  stderr: Buffer;
}

const CONNECT_TIMEOUT_MS = 60_000;
/** A peer that is alive answers a ping at once; one that sends nothing for this long is gone. */
const PING_INTERVAL_MS = 15_000;
const SILENCE_MS_MAX = 45_000;
/** After the exit frame nothing more is expected; a server that is slow to close must not keep us waiting. */
const CLOSE_GRACE_MS = 1_000;

/** @internal use HobClient.exec */
export async function openExec(endpoint: Endpoint, path: string, options: ExecOptions): Promise<ExecSession> {
  const socket = await dial(endpoint, path, execQuery(options), options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
  return new ExecSession(socket, endpoint.url.origin, options);
}

function execQuery(options: ExecOptions): URLSearchParams {
  const query = new URLSearchParams();
  for (const argument of options.command) query.append("cmd", argument);
  if (options.command[0] !== undefined) query.append("path", options.command[0]);
  query.append("stdin", options.stdin === true ? "true" : "false");
  if (options.tty !== undefined) {
    query.append("tty", "true");
    query.append("cols", String(options.tty.cols));
    query.append("rows", String(options.tty.rows));
  }
  if (options.dir !== undefined) query.append("dir", options.dir);
  for (const [key, value] of Object.entries(options.env ?? {})) query.append("env", `${key}=${value}`);
  return query;
}

/**
 * One running command. Both outputs must be read, or be told to `resume()`: they share one connection, and a full
 * one holds up the other. `exit` alone tells how the command ended: the outputs also end when the connection breaks.
 */
export class ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** empty on a TTY */
  readonly stderr: Readable;
  /** exit status 0 to 255, 128 + n for death by signal n. Rejects if the connection ends without one. */
  readonly exit: Promise<number>;
  /** what the server said about the session; undefined until its first frame */
  info: SessionInfoFrame | undefined;

  readonly #socket: WebSocket;
  readonly #tty: boolean;
  readonly #origin: string;
  readonly #settled = Promise.withResolvers<number>();
  readonly #stdout: SessionOutput;
  readonly #stderr: SessionOutput;
  readonly #pinger: NodeJS.Timeout;
  #closer: NodeJS.Timeout | undefined;
  #lastHeardMs = performance.now();
  #ended = false;

  constructor(socket: WebSocket, origin: string, options: ExecOptions) {
    this.#socket = socket;
    this.#tty = options.tty !== undefined;
    this.#origin = origin;
    this.exit = this.#settled.promise;
    // Whoever awaits it sees the failure; nobody awaiting it must not end the process.
    this.exit.catch(() => {});
    this.stdout = this.#stdout = new SessionOutput(() => this.#flow());
    this.stderr = this.#stderr = new SessionOutput(() => this.#flow());
    this.stdin = new SessionInput(socket, this.#tty, options.stdin === true);
    // A write after the command has ended is not an error of the command: `exit` tells how that went.
    this.stdin.on("error", () => {});
    this.#pinger = setInterval(() => this.#watch(), PING_INTERVAL_MS);
    socket.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    socket.on("pong", () => this.#heard());
    socket.on("ping", () => this.#heard());
    socket.on("error", (error) => this.#fail(connectionError("exec", this.#origin, error)));
    socket.on("close", (code, reason) => this.#onClose(code, reason.toString("utf8")));
    socket.resume();
  }

  resize(size: TtySize): void {
    this.#sendText({ type: "resize", cols: size.cols, rows: size.rows });
  }

  /** Delivers a signal to the command's process group. @param signal a name such as SIGTERM, signal(7) */
  sendSignal(signal: string): void {
    this.#sendText({ type: "signal", signal });
  }

  /** Leaves the command: the server decides how long it lives on without a client. */
  close(): void {
    this.#fail(new HobError("connection_lost", "exec: left before the command ended"));
  }

  #sendText(frame: ClientTextFrame): void {
    // What comes too late for a connection that is going has no one to reach: `exit` tells why it went.
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    this.#heard();
    if (this.#ended) return;
    const bytes = data as Buffer;
    if (!isBinary) this.#onText(bytes.toString("utf8"));
    else if (this.#tty) this.#deliver(this.#stdout, bytes);
    else this.#onStream(bytes[0], bytes.subarray(1));
  }

  #onStream(stream: number | undefined, payload: Buffer): void {
    if (stream === STREAM.stdout) this.#deliver(this.#stdout, payload);
    else if (stream === STREAM.stderr) this.#deliver(this.#stderr, payload);
    else if (stream === STREAM.exit && payload.length === 1) this.#succeed(payload[0] as number);
    else if (stream === STREAM.exit) this.#fail(new HobError("bad_answer", "exec: the server sent an exit frame without a status"));
    // Any other is a stream of a newer server; the ids this client knows keep their meaning.
  }

  #onText(text: string): void {
    const frame = parseTextFrame(text);
    if (frame?.type === "session_info") this.info = frame;
    else if (frame?.type === "exit") this.#succeed(frame.exit_code);
  }

  #deliver(output: SessionOutput, bytes: Buffer): void {
    if (bytes.length > 0 && !output.deliver(bytes)) this.#socket.pause();
  }

  /** An output was read from: take from the network again once neither is full. */
  #flow(): void {
    if (this.#stdout.wantsMore && this.#stderr.wantsMore && this.#socket.isPaused) {
      this.#heard();
      this.#socket.resume();
    }
  }

  #heard(): void {
    this.#lastHeardMs = performance.now();
  }

  #watch(): void {
    // While we do not read, the answers to pings wait unread as well.
    if (this.#socket.isPaused) return;
    const silentMs = performance.now() - this.#lastHeardMs;
    if (silentMs > SILENCE_MS_MAX) {
      this.#fail(new HobError("connection_lost", `exec: ${this.#origin} was silent for ${Math.round(silentMs / 1000)} s`));
    } else if (this.#socket.readyState === this.#socket.OPEN) {
      this.#socket.ping();
    }
  }

  #onClose(code: number, reason: string): void {
    clearTimeout(this.#closer);
    const why = reason === "" ? `close code ${code}` : reason;
    this.#fail(
      new HobError("connection_lost", `exec: the connection ended before the command did (${why})`, {
        hint: "whether the command goes on is not known",
      }),
    );
  }

  #succeed(exitCode: number): void {
    if (this.#end()) this.#settled.resolve(exitCode);
  }

  #fail(error: HobError): void {
    if (this.#end()) this.#settled.reject(error);
  }

  /** @returns false if the session had ended before */
  #end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    clearInterval(this.#pinger);
    this.stdin.destroy();
    this.#stdout.end();
    this.#stderr.end();
    // A paused socket would never see the peer's close frame.
    this.#socket.resume();
    this.#socket.close();
    this.#closer = setTimeout(() => this.#socket.terminate(), CLOSE_GRACE_MS);
    this.#closer.unref();
    return true;
  }
}

/** Runs a session to its end, its output kept in memory. */
export async function collect(session: ExecSession, input?: string | Uint8Array): Promise<ExecResult> {
  const outputs = Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
  session.stdin.end(input);
  const exitCode = await session.exit;
  const [stdout, stderr] = await outputs;
  return { exitCode, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
}
