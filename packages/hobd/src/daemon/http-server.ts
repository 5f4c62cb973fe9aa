import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { HobError, LIMITS, SPRITE_VERSION, toHobError } from "@hob/protocol";
import { getRequestListener } from "@hono/node-server";
import type { Logger } from "pino";
import { logError, sendError } from "../api/error-answer.ts";
import { type FrontDoor, SPRITE_VERSION_HEADER } from "../front-door/front-door.ts";
import type { Ingress } from "../ingress/ingress.ts";
import { type Destination, destinationOf } from "./destination.ts";
import type { TlsMaterial } from "./tls-files.ts";

/** Room for a full exec target and ordinary headers beside it. Node's default is 16 KiB for both together. */
const HEADER_BYTES_MAX = LIMITS.requestTargetBytes + 64 * 1024;

const HEADERS_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;

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
  ingress: Ingress;
}

/**
 * The daemon's HTTP server, with and without TLS. It takes the address first, so that a second daemon learns at once that it is taken, and
 * holds early requests until the handlers are there.
 */
export class HttpServer {
  readonly #plain: Server;
  #tls: TlsServer | undefined;
  readonly #log: Logger;
  readonly #domain: string;
  readonly #handlers = Promise.withResolvers<{
    frontDoor: FrontDoor;
    ingress: Ingress;
    api: (request: IncomingMessage, response: ServerResponse) => unknown;
  }>();
  /** open connections that have not been upgraded */
  readonly #connections = new Set<Duplex>();
  /** those below the connections of TLS, which exist before these */
  readonly #belowTls = new Set<Duplex>();
  /** connections whose request is being answered */
  readonly #answering = new WeakSet<Duplex>();
  #stopping = false;
  #doors: readonly (FrontDoor | Ingress)[] = [];

  /** @param domain requests to names below it are for sprites' URLs, all others for the API */
  constructor(log: Logger, domain: string) {
    this.#log = log;
    this.#domain = domain;
    this.#handlers.promise.catch(() => {});
    this.#plain = createServer(this.#options());
    this.#attach(this.#plain, "connection");
  }

  #options(): ServerOptions {
    return {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      // No bound on a whole request: an upload may take hours. Bodies that the host itself reads have their own.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_MS,
      noDelay: true,
      // Any other Upgrade is ignored, as RFC 9110 section 7.8 allows, and the request answered as if without it.
      shouldUpgradeCallback: (request) => {
        const kind = isWebSocketRequest(request) ? tryDestination(request, this.#domain)?.kind : undefined;
        return kind === "sprite" || kind === "url";
      },
    };
  }

  #attach(server: Server | TlsServer, connection: "connection" | "secureConnection"): void {
    server.on(connection, (socket: Duplex) => {
      this.#connections.add(socket);
      socket.once("close", () => this.#connections.delete(socket));
    });
    const onRequest = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response);
    server.on("request", onRequest);
    server.on("checkContinue", (request, response) => {
      // Behind a sprite's URL it is the application that says whether it wants the body.
      if (tryDestination(request, this.#domain)?.kind !== "url") response.writeContinue();
      onRequest(request, response);
    });
    // Expectations other than 100-continue: RFC 9110 section 10.1.1 lets a server go on as if there were none.
    server.on("checkExpectation", onRequest);
    server.on("upgrade", (request, socket, head) => void this.#upgrade(request, socket, head));
    server.on("clientError", (error, socket) => this.#onClientError(error, socket));
  }

  /** Takes the address. @throws HobError `address_in_use` | `invalid_config` */
  listen(address: ListenAddress): Promise<ListenAddress> {
    return this.#listenWith(this.#plain, address);
  }

  /** The same behind TLS, at another address. @throws HobError `address_in_use` | `invalid_config` */
  listenTls(address: ListenAddress, material: TlsMaterial): Promise<ListenAddress> {
    const server = createTlsServer({ ...this.#options(), ...material, handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS });
    this.#tls = server;
    server.on("connection", (socket) => {
      this.#belowTls.add(socket);
      socket.once("close", () => this.#belowTls.delete(socket));
    });
    this.#attach(server, "secureConnection");
    return this.#listenWith(server, address);
  }

  /** For connections from now on. */
  renewTls(material: TlsMaterial): void {
    this.#tls?.setSecureContext(material);
  }

  #listenWith(server: Server, { host, port }: ListenAddress): Promise<ListenAddress> {
    return new Promise((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
      server.listen({ host, port }, () => {
        server.on("error", (error) => this.#log.error({ err: error }, "server error"));
        resolve({ host, port: (server.address() as AddressInfo).port });
      });
    });
  }

  /** From here on requests are answered. */
  serve({ api, frontDoor, ingress }: Handlers): void {
    this.#doors = [frontDoor, ingress];
    this.#handlers.resolve({ frontDoor, ingress, api: getRequestListener(api, { overrideGlobalObjects: false }) });
  }

  /** Stops accepting, gives what is under way a bounded time, then cuts it. Resolves when every connection is closed. */
  async stop(drainMs = DRAIN_MS): Promise<void> {
    this.#stopping = true;
    this.#handlers.reject(shuttingDown());
    const servers = [this.#plain, this.#tls].filter((server) => server?.listening === true);
    const closed = Promise.all(servers.map((server) => new Promise<void>((resolve) => server?.close(() => resolve()))));
    const timer = setTimeout(() => this.#cutAll(servers), drainMs);
    // close() closes what is idle at that moment, and does not count a connection that has never asked anything.
    const sweep = setInterval(() => this.#closeUnused(), SWEEP_MS);
    await closed;
    // Nor does it wait for upgraded connections.
    while (this.#doors.some((door) => door.sessionCount > 0)) await new Promise((resolve) => setTimeout(resolve, SWEEP_MS));
    clearTimeout(timer);
    clearInterval(sweep);
  }

  #cutAll(servers: readonly (Server | undefined)[]): void {
    for (const server of servers) server?.closeAllConnections();
    for (const door of this.#doors) door.closeSessions();
    for (const socket of this.#belowTls) socket.destroy();
  }

  #closeUnused(): void {
    for (const socket of this.#connections) if (!this.#answering.has(socket)) socket.destroy();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#answering.add(request.socket);
    response.once("close", () => this.#answering.delete(request.socket));
    response.setHeader(SPRITE_VERSION_HEADER, SPRITE_VERSION);
    try {
      const destination = destinationOf(request, this.#domain);
      if (destination.kind === "url") response.removeHeader(SPRITE_VERSION_HEADER);
      if (this.#stopping) throw shuttingDown();
      const { api, frontDoor, ingress } = await this.#handlers.promise;
      if (destination.kind === "url") return await ingress.handle(request, response, destination);
      if (destination.kind === "sprite") return await frontDoor.handle(request, response, destination);
      request.url = destination.target;
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
    const destination = tryDestination(request, this.#domain);
    const handlers = this.#stopping ? undefined : await this.#handlers.promise.catch(() => undefined);
    if (handlers !== undefined && destination?.kind === "sprite") {
      await handlers.frontDoor.handleUpgrade(request, socket, head, destination);
    } else if (handlers !== undefined && destination?.kind === "url") {
      await handlers.ingress.handleUpgrade(request, socket, head, destination);
    } else writeRawError(socket, 503, "Service Unavailable", shuttingDown());
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

function tryDestination(request: IncomingMessage, domain: string): Destination | undefined {
  try {
    return destinationOf(request, domain);
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
