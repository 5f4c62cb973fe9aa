import { createHash } from "node:crypto";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

/** What a peer answers with. */
export interface HostileAnswer {
  readonly parts: readonly Buffer[];
  /** how the connection ends after them */
  readonly end: "end" | "reset";
}

/** When a server begins: at once, and goes on after each word of the client; after anything; after the head of a request. */
type Talks = "first" | "after anything" | "after a head";

/** Joins what a server says to an upgrade of RFC 6455 before its frames. */
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/**
 * A server that answers a request with given bytes, whatever was asked. Requests name their answer by the bearer token; where
 * there is none, the newest answer counts. `@upgrade` at the beginning of an answer stands for a right 101.
 */
export class HostileServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #answers = new Map<string, HostileAnswer>();
  readonly #sockets = new Set<Socket>();
  #count = 0;

  private constructor(talks: Talks) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket));
      if (talks === "first") return this.#converse(socket);
      let head = "";
      const onData = (chunk: Buffer) => {
        head += chunk.toString("latin1");
        if (talks === "after a head" && !head.includes("\r\n\r\n")) return;
        socket.off("data", onData).resume();
        void this.#answer(socket, head);
      };
      socket.on("data", onData);
    });
  }

  static async start({ path, talks = "after a head" }: { path?: string; talks?: Talks } = {}): Promise<HostileServer> {
    const server = new HostileServer(talks);
    const where = path === undefined ? { port: 0, host: "127.0.0.1" } : { path };
    await new Promise<void>((resolve) => server.#server.listen(where, resolve));
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that clients still hold, long after their calls. */
  async settled(): Promise<number> {
    for (let turn = 0; turn < 500 && this.#sockets.size > 0; turn++) await new Promise((resolve) => setTimeout(resolve, 20));
    return this.#sockets.size;
  }

  /** Calls with the token that names the answer; its connections are cut afterwards. */
  async with<T>(answer: HostileAnswer, use: (token: string) => Promise<T>): Promise<T> {
    const token = String(this.#count++).padStart(40, "0");
    this.#answers.set(token, answer);
    try {
      return await use(token);
    } finally {
      this.#answers.delete(token);
    }
  }

  async #answer(socket: Socket, head: string): Promise<void> {
    const token = /^authorization: bearer (\d+)\r$/im.exec(head)?.[1];
    const answer = token === undefined ? this.#newest() : this.#answers.get(token);
    if (answer === undefined) return void socket.destroy();
    for (const part of answer.parts) {
      socket.write(part.toString("latin1", 0, 8) === "@upgrade" ? Buffer.concat([upgraded(head), part.subarray(8)]) : part);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (answer.end === "reset") socket.resetAndDestroy();
    else socket.end();
  }

  #converse(socket: Socket): void {
    const parts = [...(this.#newest()?.parts ?? [])];
    const next = () => {
      const part = parts.shift();
      if (part === undefined) socket.end();
      else socket.write(part);
    };
    socket.on("data", next);
    next();
  }

  #newest(): HostileAnswer | undefined {
    return [...this.#answers.values()].at(-1);
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }
}

function upgraded(head: string): Buffer {
  const key = /^sec-websocket-key: (.*)\r$/im.exec(head)?.[1] ?? "";
  const accept = createHash("sha1")
    .update(key + GUID)
    .digest("base64");
  return Buffer.from(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
}
