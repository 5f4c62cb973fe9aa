import type { Readable, Writable } from "node:stream";
import { HobError } from "@hob/protocol/errors.ts";
import { type ClientTextFrame, type SessionInfoFrame, STREAM } from "@hob/protocol/exec.ts";
import type { RawData, WebSocket } from "ws";
import { connectionError } from "./errors.ts";
import { SessionInput } from "./exec-input.ts";
import { SessionOutput } from "./exec-output.ts";
import { type AttachOptions, attachQuery, type ConnectOptions, type ExecOptions, execQuery, type TtySize } from "./exec-query.ts";
import { parseTextFrame } from "./frames.ts";
import type { Endpoint } from "./http.ts";
import { Outage } from "./resume.ts";
import { dial } from "./web-socket.ts";

export type { AttachOptions, ConnectOptions, ExecOptions, TtySize } from "./exec-query.ts";
export type { ResumeOptions } from "./resume.ts";

const CONNECT_TIMEOUT_MS = 60_000;
/** A peer that is alive answers a ping at once; one that sends nothing for this long is gone. */
const PING_INTERVAL_MS = 15_000;
const SILENCE_MS_MAX = 45_000;
/** After the exit frame nothing more is expected; a server that is slow to close must not keep us waiting. */
const CLOSE_GRACE_MS = 1_000;

/** @internal use HobClient.exec */
export async function openExec(endpoint: Endpoint, path: string, options: ExecOptions): Promise<ExecSession> {
  const socket = await dial(endpoint, path, execQuery(options), options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
  return new ExecSession(socket, { endpoint, path }, options);
}

/** @internal use HobClient.attach. @param path of all sessions of the sprite */
export async function openAttach(endpoint: Endpoint, path: string, id: string, options: AttachOptions): Promise<ExecSession> {
  const target = `${path}/${encodeURIComponent(id)}`;
  const socket = await dial(endpoint, target, attachQuery(options), options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
  const session = new ExecSession(socket, { endpoint, path }, options);
  await session.ready;
  return session;
}

/**
 * One running command. Both outputs must be read, or be told to `resume()`: they share one connection, and a full
 * one holds up the other. `exit` alone tells how the command ended: the outputs also end when the connection breaks
 * for good.
 */
export class ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** empty on a TTY */
  readonly stderr: Readable;
  /** exit status 0 to 255, 128 + n for death by signal n. Rejects if the connection ends without one. */
  readonly exit: Promise<number>;
  /** resolves with what the server says about the session; rejects if the connection ends before */
  readonly ready: Promise<SessionInfoFrame>;
  /** what the server said about the session; undefined until its first frame */
  info: SessionInfoFrame | undefined;

  #socket: WebSocket;
  readonly #origin: { endpoint: Endpoint; path: string };
  readonly #options: ConnectOptions;
  readonly #settled = Promise.withResolvers<number>();
  readonly #ready = Promise.withResolvers<SessionInfoFrame>();
  readonly #stdin: SessionInput;
  readonly #stdout: SessionOutput;
  readonly #stderr: SessionOutput;
  readonly #pinger: NodeJS.Timeout;
  /** ends attempts to come back */
  readonly #left = new AbortController();
  #tty: boolean;
  #closer: NodeJS.Timeout | undefined;
  #lastHeardMs = performance.now();
  /** bytes of output of the session up to the last that came here */
  #offset = 0;
  /** what the session is told when the connection is there again */
  #untold: ClientTextFrame[] = [];
  #outage: Outage | undefined;
  /** while a new connection has not yet said what it leads to: called when it has, or has broken */
  #onConnection: () => void = () => {};
  #isResuming = false;
  #ended = false;

  /** @param origin where the sessions of the sprite are */
  constructor(socket: WebSocket, origin: { endpoint: Endpoint; path: string }, options: ConnectOptions & { tty?: TtySize | undefined }) {
    this.#origin = origin;
    this.#options = options;
    this.#tty = options.tty !== undefined;
    this.exit = this.#settled.promise;
    this.ready = this.#ready.promise;
    // Whoever awaits them sees the failure; nobody awaiting them must not end the process.
    this.exit.catch(() => {});
    this.ready.catch(() => {});
    this.stdout = this.#stdout = new SessionOutput(() => this.#flow());
    this.stderr = this.#stderr = new SessionOutput(() => this.#flow());
    this.stdin = this.#stdin = new SessionInput(socket, { wanted: options.stdin === true, resumable: options.resume !== undefined });
    this.#stdin.tty = this.#tty;
    // A write after the command has ended is not an error of the command: `exit` tells how that went.
    this.stdin.on("error", () => {});
    this.#pinger = setInterval(() => this.#watch(), PING_INTERVAL_MS);
    this.#socket = socket;
    this.#listen(socket);
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

  #listen(socket: WebSocket): void {
    socket.on("message", (data, isBinary) => socket === this.#socket && this.#onMessage(data, isBinary));
    socket.on("pong", () => this.#heard());
    socket.on("ping", () => this.#heard());
    socket.on("error", (error) => this.#lose(socket, connectionError("exec", this.#origin.endpoint.url.origin, error)));
    socket.on("close", (code, reason) => this.#onClose(socket, code, reason.toString("utf8")));
    this.#heard();
    if (this.#stdout.wantsMore && this.#stderr.wantsMore) socket.resume();
  }

  #sendText(frame: ClientTextFrame): void {
    if (this.#isResuming) this.#untold.push(frame);
    // What comes too late for a connection that is going has no one to reach: `exit` tells why it went.
    else if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify(frame));
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
    if (frame?.type === "session_info") this.#onInfo(frame);
    else if (frame?.type === "exit") this.#succeed(frame.exit_code);
  }

  #onInfo(info: SessionInfoFrame): void {
    if (this.#isResuming) {
      this.#continue(info);
      return;
    }
    this.info = info;
    this.#tty = this.#stdin.tty = info.tty;
    this.#offset = info.output_offset ?? 0;
    this.#stdin.begin(info.input_offset ?? 0);
    this.#ready.resolve(info);
  }

  #deliver(output: SessionOutput, bytes: Buffer): void {
    this.#offset += bytes.length;
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
    if (this.#socket.isPaused || this.#socket.readyState !== this.#socket.OPEN) return;
    const silentMs = performance.now() - this.#lastHeardMs;
    const { origin } = this.#origin.endpoint.url;
    if (silentMs <= SILENCE_MS_MAX) this.#socket.ping();
    else this.#lose(this.#socket, new HobError("connection_lost", `exec: ${origin} was silent for ${Math.round(silentMs / 1000)} s`));
  }

  #onClose(socket: WebSocket, code: number, reason: string): void {
    if (this.#ended) clearTimeout(this.#closer);
    const why = reason === "" ? `close code ${code}` : reason;
    this.#lose(
      socket,
      new HobError("connection_lost", `exec: the connection ended before the command did (${why})`, {
        hint: "whether the command goes on is not known",
      }),
    );
  }

  /** A connection has broken: another one takes its place, if that was asked for and the session is known. */
  #lose(socket: WebSocket, error: HobError): void {
    if (this.#ended || socket !== this.#socket) return;
    // The old one may be half alive: nothing of it counts any more.
    socket.terminate();
    this.#stdin.lose();
    if (this.#options.resume === undefined || this.info === undefined) this.#fail(error);
    else if (this.#isResuming) this.#onConnection();
    else void this.#resume(this.info, error);
  }

  async #resume(info: SessionInfoFrame, cause: HobError): Promise<void> {
    const { endpoint, path } = this.#origin;
    const sessionPath = `${path}/${encodeURIComponent(info.session_id)}`;
    this.#isResuming = true;
    if (this.#outage === undefined || this.#outage.isOver)
      this.#outage = new Outage(endpoint, this.#options.resume ?? {}, this.#left.signal);
    try {
      while (this.#isResuming && !this.#ended) {
        const query = attachQuery({ stdin: this.#options.stdin === true, outputOffset: this.#offset });
        await this.#connectAgain(await this.#outage.connect(sessionPath, query));
      }
    } catch (thrown) {
      const isGone = thrown instanceof HobError && thrown.code === "not_found";
      this.#fail(isGone ? cause : withReason(cause, thrown, info.session_id));
    }
  }

  /** Resolves when the session has said that it is the same, or this connection is gone as well. */
  #connectAgain(socket: WebSocket): Promise<void> {
    if (this.#ended) socket.terminate();
    else {
      this.#socket = socket;
      this.#listen(socket);
      // The outputs may be full, but only the first frame tells what this is.
      socket.resume();
    }
    return new Promise((resolve) => {
      this.#onConnection = resolve;
      if (this.#ended) resolve();
    });
  }

  /** The first frame over a new connection. */
  #continue(info: SessionInfoFrame): void {
    if (info.session_id !== this.info?.session_id || info.created !== this.info.created) {
      this.#fail(new HobError("connection_lost", "exec: the session is gone, another one has its id"));
      return;
    }
    const from = info.output_offset ?? this.#offset;
    if (from > this.#offset) this.#options.resume?.onGap?.(from - this.#offset);
    this.#offset = from;
    this.#isResuming = false;
    this.#onConnection();
    this.#outage?.end();
    for (const frame of this.#untold.splice(0)) this.#sendText(frame);
    if (this.#stdin.resume(this.#socket, info.input_offset ?? 0)) return;
    this.#fail(new HobError("connection_lost", "exec: the connection broke, and input that was on its way is lost"));
  }

  #succeed(exitCode: number): void {
    if (this.#end()) this.#settled.resolve(exitCode);
  }

  #fail(error: HobError): void {
    if (!this.#end()) return;
    this.#settled.reject(error);
    this.#ready.reject(error);
  }

  /** @returns false if the session had ended before */
  #end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    clearInterval(this.#pinger);
    this.#left.abort();
    this.#onConnection();
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

/** The reason why the connection broke, and why it did not come back. */
function withReason(cause: HobError, thrown: unknown, sessionId: string): HobError {
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  const hint = `it could not be made again: ${why}`;
  return new HobError(cause.code, cause.message, { hint, details: { session_id: sessionId }, cause: thrown });
}
