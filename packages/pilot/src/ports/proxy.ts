import type { Socket } from "node:net";
import { EOF_FRAME, HobError, LIMITS, type ProxyAnswer, proxyRequest, toHobError } from "@hob/protocol";
import type { RawData, WebSocket } from "ws";
import type { InsideDialer } from "./dialer.ts";

/** Clients wait 10 s for the answer to their first frame: what takes longer must still be answered. */
const CONNECT_TIMEOUT_MS = 8_000;
const FIRST_FRAME_TIMEOUT_MS = 10_000;
/** Time that the bytes of a client that has closed have to reach the target. */
const FLUSH_TIMEOUT_MS = 10_000;
/** RFC 6455 section 7.4.1 */
const CLOSE_NORMAL = 1000;
const CLOSE_UNEXPECTED = 1011;

/** One connection through the sprite, for one WebSocket. */
export class ProxyConnection {
  readonly #webSocket: WebSocket;
  readonly #dialer: InsideDialer;
  #socket: Socket | undefined;
  #halfClose = false;
  #asked = false;
  /** frames that came together with the first: a paused WebSocket still delivers what it has read */
  #early: [data: RawData, isBinary: boolean][] = [];
  #clientEnded = false;
  #targetEnded = false;

  constructor(webSocket: WebSocket, dialer: InsideDialer) {
    this.#webSocket = webSocket;
    this.#dialer = dialer;
    const timer = setTimeout(() => webSocket.close(CLOSE_UNEXPECTED, "no first frame"), FIRST_FRAME_TIMEOUT_MS);
    webSocket.on("error", () => webSocket.terminate());
    webSocket.once("close", () => {
      clearTimeout(timer);
      this.#onClientClose();
    });
    webSocket.on("message", (data, isBinary) => {
      clearTimeout(timer);
      if (!this.#asked) void this.#start(data as Buffer, isBinary);
      else if (this.#socket === undefined) this.#early.push([data, isBinary]);
      else this.#onMessage(data, isBinary);
    });
  }

  async #start(first: Buffer, isBinary: boolean): Promise<void> {
    this.#asked = true;
    // What a hasty client sends on waits in the kernel until there is somebody to give it to.
    this.#webSocket.pause();
    try {
      const { host, port, half_close } = parseFirst(first, isBinary);
      const { socket, peer } = await this.#dialer.dial(host, port, CONNECT_TIMEOUT_MS);
      if (this.#webSocket.readyState !== this.#webSocket.OPEN) return void socket.destroy();
      this.#halfClose = half_close;
      this.#join(socket, `${peer.address.includes(":") ? `[${peer.address}]` : peer.address}:${peer.port}`);
    } catch (thrown) {
      const error = toHobError(thrown);
      const answer: ProxyAnswer = { status: "error", error: error.code, message: error.message };
      this.#webSocket.resume();
      this.#webSocket.send(JSON.stringify(answer));
      this.#webSocket.close(CLOSE_UNEXPECTED, error.code);
    }
  }

  #join(socket: Socket, target: string): void {
    this.#socket = socket;
    const answer: ProxyAnswer = { status: "connected", target };
    this.#webSocket.send(JSON.stringify(answer));
    socket.on("data", (chunk: Buffer) => this.#onData(socket, chunk));
    socket.once("end", () => this.#onTargetEnd());
    socket.on("drain", () => this.#webSocket.resume());
    socket.once("close", () => this.#onTargetClose());
    socket.resume();
    this.#webSocket.resume();
    for (const frame of this.#early) this.#onMessage(...frame);
    this.#early = [];
  }

  #onData(socket: Socket, chunk: Buffer): void {
    this.#webSocket.send(chunk, () => {
      if (this.#webSocket.bufferedAmount <= LIMITS.outputHighWaterBytes / 2) socket.resume();
    });
    if (this.#webSocket.bufferedAmount > LIMITS.outputHighWaterBytes) socket.pause();
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    if (!isBinary) {
      if (this.#halfClose && String(data) === EOF_FRAME) this.#onClientEnd();
      return;
    }
    if (!this.#clientEnded && this.#socket?.write(data as Buffer) === false) this.#webSocket.pause();
  }

  #onClientEnd(): void {
    this.#clientEnded = true;
    this.#socket?.end();
    if (this.#targetEnded) this.#finish();
  }

  /** Frames keep their order, so all that the target sent is ahead of its end. */
  #onTargetEnd(): void {
    this.#targetEnded = true;
    if (this.#halfClose && !this.#clientEnded) this.#webSocket.send(EOF_FRAME);
    else this.#finish();
  }

  #finish(): void {
    // A paused socket would never see the client's close frame.
    this.#webSocket.resume();
    this.#webSocket.close(CLOSE_NORMAL);
  }

  #onTargetClose(): void {
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    this.#webSocket.resume();
    this.#webSocket.close(this.#targetEnded ? CLOSE_NORMAL : CLOSE_UNEXPECTED);
  }

  /** What the client sent before it closed still goes to the target; what the target says has no reader any more. */
  #onClientClose(): void {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed) return;
    const timer = setTimeout(() => socket.destroy(), FLUSH_TIMEOUT_MS);
    socket.removeAllListeners("data").resume();
    socket.once("close", () => clearTimeout(timer));
    socket.end(() => socket.destroy());
  }
}

function parseFirst(data: Buffer, isBinary: boolean): ReturnType<typeof proxyRequest.parse> {
  let json: unknown;
  try {
    json = isBinary ? undefined : JSON.parse(data.toString("utf8"));
  } catch {
    json = undefined;
  }
  const parsed = proxyRequest.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new HobError("invalid_request", 'proxy: the first frame is not {"host": NAME, "port": 1 to 65535}');
}
