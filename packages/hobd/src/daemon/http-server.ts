import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { HobError, LIMITS, SPRITE_VERSION, toHobError } from "@hob/protocol";
import { getRequestListener } from "@hono/node-server";
import type { Logger } from "pino";
import { logError, sendError } from "../api/error-answer.ts";
import { type FrontDoor, SPRITE_VERSION_HEADER } from "../front-door/front-door.ts";
import { parseTarget, type Target } from "../front-door/target.ts";

/** Room for a full exec target and ordinary headers beside it. Node's default is 16 KiB for both together. */
const HEADER_BYTES_MAX = LIMITS.requestTargetBytes + 64 * 1024;

const HEADERS_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 65_000;

/** Milliseconds of silence after which the kernel asks a peer whether it is still there. */
const TCP_KEEPALIVE_MS = 30_000;

/** Milliseconds that requests and sessions under way have to end by themselves when the daemon stops. */
const DRAIN_MS = 2_000;
const SWEEP_MS = 20;

export interface ListenAddress {
  host: string;
  /** 0 picks a free one */
  port: number;
}

/** What answers requests; it exists only once the daemon knows its port and has recovered its sprites. */
export interface Handlers {
  api: Parameters<typeof getRequestListener>[0];
  frontDoor: FrontDoor;
}

/**
 * The daemon's HTTP server. It takes the address first, so that a second daemon learns at once that it is taken, and
 * holds early requests until the handlers are there.
 */
export class HttpServer {
  readonly #server: Server;
  readonly #log: Logger;
  readonly #handlers = Promise.withResolvers<{
    frontDoor: FrontDoor;
    api: (request: IncomingMessage, response: ServerResponse) => unknown;
  }>();
  /** open connections that have not been upgraded */
  readonly #connections = new Set<Duplex>();
  /** those of them whose request is being answered */
  readonly #answering = new WeakSet<Duplex>();
  #stopping = false;
  #frontDoor: FrontDoor | undefined;

  constructor(log: Logger) {
    this.#log = log;
    this.#handlers.promise.catch(() => {});
    this.#server = createServer({
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      // No bound on a whole request: an upload may take hours. Bodies that the host itself reads have their own.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_MS,
      noDelay: true,
      // Any other Upgrade is ignored, as RFC 9110 section 7.8 allows, and the request answered as if without it.
      shouldUpgradeCallback: (request) => isWebSocketRequest(request) && tryParseTarget(request)?.kind === "sprite",
    });
    const onRequest = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response);
    this.#server.on("connection", (socket) => {
      this.#connections.add(socket);
      socket.once("close", () => this.#connections.delete(socket));
    });
    this.#server.on("request", onRequest);
    // Expectations other than 100-continue: RFC 9110 section 10.1.1 lets a server go on as if there were none.
    this.#server.on("checkExpectation", onRequest);
    this.#server.on("upgrade", (request, socket, head) => void this.#upgrade(request, socket, head));
    this.#server.on("clientError", (error, socket) => this.#onClientError(error, socket));
  }

  /** Takes the address. @throws HobError `address_in_use` | `invalid_config` */
  listen({ host, port }: ListenAddress): Promise<ListenAddress> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
      this.#server.listen({ host, port }, () => {
        this.#server.on("error", (error) => this.#log.error({ err: error }, "server error"));
        resolve({ host, port: (this.#server.address() as AddressInfo).port });
      });
    });
  }

  /** From here on requests are answered. */
  serve({ api, frontDoor }: Handlers): void {
    this.#frontDoor = frontDoor;
    this.#handlers.resolve({ frontDoor, api: getRequestListener(api, { overrideGlobalObjects: false }) });
  }

  /** Stops accepting, gives what is under way a bounded time, then cuts it. Resolves when every connection is closed. */
  async stop(drainMs = DRAIN_MS): Promise<void> {
    this.#stopping = true;
    this.#handlers.reject(shuttingDown());
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const timer = setTimeout(() => {
      this.#server.closeAllConnections();
      this.#frontDoor?.closeSessions();
    }, drainMs);
    // close() closes what is idle at that moment, and does not count a connection that has never asked anything.
    const sweep = setInterval(() => this.#closeUnused(), SWEEP_MS);
    await closed;
    // Nor does it wait for upgraded connections.
    while ((this.#frontDoor?.sessionCount ?? 0) > 0) await new Promise((resolve) => setTimeout(resolve, SWEEP_MS));
    clearTimeout(timer);
    clearInterval(sweep);
  }

  #closeUnused(): void {
    for (const socket of this.#connections) if (!this.#answering.has(socket)) socket.destroy();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#answering.add(request.socket);
    response.once("close", () => this.#answering.delete(request.socket));
    response.setHeader(SPRITE_VERSION_HEADER, SPRITE_VERSION);
    try {
      const target = parseTarget(request.url ?? "");
      if (this.#stopping) throw shuttingDown();
      const { api, frontDoor } = await this.#handlers.promise;
      if (target.kind === "sprite") return await frontDoor.handle(request, response, target);
      request.url = target.target;
      await api(request, response);
    } catch (error) {
      const hobError = toHobError(error);
      logError(this.#log, hobError, { method: request.method, path: "" });
      sendError(response, hobError);
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    this.#connections.delete(socket);
    // While the handlers are awaited, nobody else listens.
    socket.on("error", () => socket.destroy());
    const target = tryParseTarget(request);
    const handlers = this.#stopping ? undefined : await this.#handlers.promise.catch(() => undefined);
    if (handlers === undefined || target?.kind !== "sprite") return writeRawError(socket, 503, "Service Unavailable", shuttingDown());
    await handlers.frontDoor.handleUpgrade(request, socket, head, target);
  }

  /** What the HTTP parser refused: there is no request, so the answer is written by hand. Nothing is written into an answer under way. */
  #onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (!socket.writable || this.#answering.has(socket) || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const [status, reason] =
      error.code === "HPE_HEADER_OVERFLOW"
        ? ([431, "Request Header Fields Too Large"] as const)
        : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
          ? ([408, "Request Timeout"] as const)
          : ([400, "Bad Request"] as const);
    writeRawError(socket, status, reason, new HobError("invalid_request", `read request: ${reason.toLowerCase()}`));
  }
}

const isWebSocketRequest = ({ method, headers }: IncomingMessage): boolean =>
  method === "GET" && (headers.upgrade ?? "").toLowerCase() === "websocket";

function tryParseTarget(request: IncomingMessage): Target | undefined {
  try {
    return parseTarget(request.url ?? "");
  } catch {
    return undefined;
  }
}

function writeRawError(socket: Duplex, status: number, reason: string, error: HobError): void {
  const body = JSON.stringify(error.toBody());
  const head = [
    `HTTP/1.1 ${status} ${reason}`,
    `${SPRITE_VERSION_HEADER}: ${SPRITE_VERSION}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
  socket.resume();
}

const shuttingDown = (): HobError =>
  new HobError("shutting_down", "answer request: the daemon is stopping", { hint: "try again when it is up" });

function listenError(error: NodeJS.ErrnoException, host: string, port: number): HobError {
  const message = `listen on ${host}:${port}: ${error.code ?? error.message}`;
  if (error.code === "EADDRINUSE") {
    return new HobError("address_in_use", message, { hint: "stop what uses this port, or choose another one with --listen", cause: error });
  }
  return new HobError("invalid_config", message, {
    hint: "listen on an address of this machine, and a port this user may take",
    cause: error,
  });
}
