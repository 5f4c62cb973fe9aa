import { rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { Logger } from "pino";
import { COMMAND, decodeRequest, encodeReply, NBD_ERROR, type NbdRequest, REQUEST_BYTES } from "./nbd-wire.ts";

/** What a block device shows: bytes that do not change as long as it exists. */
export interface BlockSource {
  /** a multiple of 512 */
  readonly sizeBytes: number;
  /** exactly `length` bytes. A rejection is a read error of the device; a promise that waits makes the reader wait */
  read(offset: number, length: number): Promise<Buffer>;
}

/** The kernel asks for at most this much at once: its queue limit for nbd. */
const READ_BYTES_MAX = 32 * 1024 * 1024;

/**
 * Serves one source to the kernel's NBD client on a unix socket. Read-only: a device that is written to would make the
 * kernel wait for this process before it can free memory, which this process may be waiting for.
 */
export class BlockServer {
  readonly path: string;
  readonly #source: BlockSource;
  readonly #log: Pick<Logger, "warn">;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(path: string, source: BlockSource, log: Pick<Logger, "warn">) {
    this.path = path;
    this.#source = source;
    this.#log = log;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** Listens at `path`, in place of a server of an earlier process. */
  static async start(path: string, source: BlockSource, log: Pick<Logger, "warn">): Promise<BlockServer> {
    const server = new BlockServer(path, source, log);
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.#server.once("error", reject);
      server.#server.listen({ path, readableAll: false, writableAll: false }, resolve);
    });
    return server;
  }

  /** Ends all connections; a device that is still connected then waits for the next server. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#sockets.delete(socket));
    let rest: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      for (; rest.length >= REQUEST_BYTES; rest = rest.subarray(REQUEST_BYTES)) {
        const request = decodeRequest(rest);
        // Whatever this is, what follows cannot be told apart any more: a write has its data behind it.
        if (request === undefined || request.command === COMMAND.disconnect || request.command === COMMAND.write) return socket.destroy();
        void this.#answer(socket, request);
      }
    });
  }

  /** Requests are answered as their data comes, in any order: the cookie says which. */
  async #answer(socket: Socket, { command, cookie, offset, length }: NbdRequest): Promise<void> {
    if (command === COMMAND.flush) return void socket.write(encodeReply(cookie, NBD_ERROR.none));
    if (command !== COMMAND.read || length === 0 || length > READ_BYTES_MAX || offset + length > this.#source.sizeBytes) {
      return void socket.write(encodeReply(cookie, NBD_ERROR.invalid));
    }
    try {
      const data = await this.#source.read(offset, length);
      if (data.length !== length) throw new Error(`${data.length} bytes instead of ${length}`);
      socket.cork();
      socket.write(encodeReply(cookie, NBD_ERROR.none));
      socket.write(data);
      socket.uncork();
    } catch (error) {
      this.#log.warn({ err: error, offset, length }, "a block cannot be read");
      socket.write(encodeReply(cookie, NBD_ERROR.io));
    }
  }
}
