import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { pipeline } from "node:stream";
import { HobError } from "@hob/protocol/errors.ts";
import type { Endpoint } from "./http.ts";
import { openProxy, type ProxyTarget } from "./proxy.ts";

export interface ForwardOptions {
  /** default 127.0.0.1: other machines cannot use it */
  localHost?: string;
  /** 0 picks a free one */
  localPort: number;
  target: ProxyTarget;
  /** called when a connection could not be made; it was closed then */
  onError?: (error: unknown) => void;
}

/** A local port that leads into a sprite, until it is disposed of. */
export class Forward implements Disposable {
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
  }

  get localPort(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? 0;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/**
 * Listens on a local port; each connection to it becomes one inside the sprite.
 * @param path of the sprite
 * @throws HobError `address_in_use` | `invalid_config`
 */
export function forwardPort(endpoint: Endpoint, path: string, options: ForwardOptions): Promise<Forward> {
  const { localHost = "127.0.0.1", localPort, target, onError } = options;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy()).once("close", () => sockets.delete(socket));
    join(socket, endpoint, path, target).catch((error) => {
      socket.destroy();
      onError?.(error);
    });
  });
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, localHost, localPort)));
    server.listen(localPort, localHost, () => resolve(new Forward(server, sockets)));
  });
}

async function join(socket: Socket, endpoint: Endpoint, path: string, target: ProxyTarget): Promise<void> {
  const inside = await openProxy(endpoint, path, target);
  if (socket.destroyed) return void inside.destroy();
  const onEnd = (error?: Error | null) => {
    if (!error) return;
    socket.destroy();
    inside.destroy();
  };
  pipeline(socket, inside, onEnd);
  pipeline(inside, socket, onEnd);
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): HobError {
  const message = `listen on ${host}:${port}: ${error.code ?? error.message}`;
  return error.code === "EADDRINUSE"
    ? new HobError("address_in_use", message, { hint: "choose another local port, as in 8081:8080", cause: error })
    : new HobError("invalid_config", message, { hint: "ports below 1024 need root; choose another one, as in 8080:80", cause: error });
}
