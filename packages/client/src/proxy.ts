import { Duplex } from "node:stream";
import { EOF_FRAME, type ProxyAnswer, type ProxyRequest } from "@hob/protocol/api/ports.ts";
import { HobError, isErrorCode } from "@hob/protocol/errors.ts";
import type { RawData, WebSocket } from "ws";
import { connectionError } from "./errors.ts";
import type { Endpoint } from "./http.ts";
import { dial } from "./web-socket.ts";

/** Including the time that a sleeping sprite takes to wake. */
const CONNECT_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 15_000;
const FRAME_BYTES_MAX = 64 * 1024;
const CLOSE_GRACE_MS = 2_000;
/** RFC 6455 section 7.4.1 */
const CLOSE_NORMAL = 1000;

/** Where a connection leads, as the sprite itself would name it. */
export interface ProxyTarget {
  /** default localhost: the sprite, on whichever of its addresses the port is open */
  host?: string;
  port: number;
}

/**
 * Opens a TCP connection inside a sprite. Each direction ends by itself, as those of a socket do.
 * @param path of the sprite
 * @throws HobError `nothing_listens` | `host_unreachable` | what the server said | `cannot_connect` | `connection_lost` | `timeout`
 */
export async function openProxy(endpoint: Endpoint, path: string, target: ProxyTarget): Promise<Duplex> {
  const socket = await dial(endpoint, `${path}/proxy`, new URLSearchParams(), CONNECT_TIMEOUT_MS, "proxy");
  const first: ProxyRequest = { host: target.host ?? "localhost", port: target.port, half_close: true };
  try {
    return await ask(socket, JSON.stringify(first), endpoint.url.origin);
  } catch (error) {
    socket.on("error", () => {}).terminate();
    throw error instanceof HobError ? error : connectionError("proxy", endpoint.url.origin, error);
  }
}

/**
 * Sends the request, and makes the stream while the answer is being delivered: frames that came in the same segment follow
 * it at once, paused or not, and whatever nobody listens to is lost.
 */
function ask(socket: WebSocket, first: string, origin: string): Promise<ProxyStream> {
  return new Promise<ProxyStream>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new HobError("timeout", `proxy: no answer within ${ANSWER_TIMEOUT_MS / 1000} s`)),
      ANSWER_TIMEOUT_MS,
    );
    const settle = (end: () => void) => {
      clearTimeout(timer);
      socket.removeAllListeners().on("error", () => {});
      end();
    };
    socket.on("error", (error) => settle(() => reject(error)));
    socket.on("close", () => settle(() => reject(new HobError("connection_lost", "proxy: the connection ended without an answer"))));
    socket.on("message", (data, isBinary) =>
      settle(() => {
        const answer = isBinary ? undefined : parseAnswer(String(data));
        if (answer?.status === "connected") resolve(new ProxyStream(socket, origin));
        else reject(refusal(answer));
      }),
    );
    socket.resume();
    socket.send(first);
  });
}

function parseAnswer(text: string): ProxyAnswer | undefined {
  try {
    return JSON.parse(text) as ProxyAnswer;
  } catch {
    return undefined;
  }
}

const refusal = (answer: ProxyAnswer | undefined): HobError =>
  answer?.status === "error"
    ? new HobError(isErrorCode(answer.error) ? answer.error : "bad_answer", String(answer.message))
    : new HobError("bad_answer", "proxy: the first frame is not the answer");

/** Bytes of the connection; a side that stops reading stops the other side's writing. */
class ProxyStream extends Duplex {
  readonly #socket: WebSocket;
  #ended = false;

  constructor(socket: WebSocket, origin: string) {
    super({ allowHalfOpen: true, highWaterMark: 256 * 1024 });
    this.#socket = socket;
    // The connection may break before whoever asked for it can listen; what is destroyed shows that to a late reader too.
    this.on("error", () => {});
    socket.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    socket.on("error", (error) => this.destroy(connectionError("proxy", origin, error)));
    socket.once("close", (code) => this.#onClose(code));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const send = (at: number): void => {
      if (at >= chunk.length) done();
      else if (this.#socket.readyState !== this.#socket.OPEN) done(new HobError("connection_lost", "proxy: the connection has ended"));
      else {
        const part = chunk.subarray(at, at + FRAME_BYTES_MAX);
        this.#socket.send(part, { binary: true }, (error) => (error ? done(error) : send(at + part.length)));
      }
    };
    send(0);
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(EOF_FRAME, () => done());
    else done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // A paused socket would never see the peer's close frame.
    this.#socket.resume();
    this.#socket.close(CLOSE_NORMAL);
    setTimeout(() => this.#socket.terminate(), CLOSE_GRACE_MS).unref();
    done(error);
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    if (isBinary && !this.#ended && !this.push(data as Buffer)) this.#socket.pause();
    else if (!isBinary && String(data) === EOF_FRAME) this.#endOutput();
  }

  #onClose(code: number): void {
    if (this.#ended) return;
    if (code === CLOSE_NORMAL) this.#endOutput();
    else this.destroy(new HobError("connection_lost", `proxy: the connection broke (close code ${code})`));
  }

  #endOutput(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.push(null);
  }
}
