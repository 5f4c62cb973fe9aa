import { Agent, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { HobError, PILOT_ROUTES, RELAY } from "@hob/protocol";
import type { Endpoint } from "../api/endpoint.ts";

/** Milliseconds a request waits for the host to dial. It dials at once when a VM starts, and again when a connection ends. */
const WAIT_MS = 30_000;
/** Connections that wait for use; the host dials no more than RELAY.connections, a faulty one might. */
const IDLE_MAX = 2 * RELAY.connections;

type Callback = (error: Error | null, socket: Duplex) => void;

/**
 * Connections that the host has dialled and given up to this side. As an http.Agent it carries requests to the host on
 * them: where an agent would connect, this one takes a connection that is there, or waits for one.
 */
export class RelayConnections extends Agent implements Endpoint {
  readonly #idle: Socket[] = [];
  /** with the start of the VM that each belongs to */
  readonly #all = new Map<Socket, string>();
  readonly #waiting = new Set<(socket: Duplex) => void>();

  constructor() {
    super({ keepAlive: true, maxSockets: RELAY.connections, maxFreeSockets: RELAY.connections });
  }

  /** Takes the host's upgrade. Only the host can ask: clients' paths all begin with /v1/. */
  upgrade(request: IncomingMessage, socket: Duplex): boolean {
    if (request.url !== PILOT_ROUTES.relay || request.headers.upgrade !== RELAY.upgrade) return false;
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${RELAY.upgrade}\r\n\r\n`);
    this.#add(socket as Socket, String(request.headers[RELAY.startHeader] ?? ""));
    return true;
  }

  /** Cuts the connections of other starts of the VM: their other ends went with its memory's save, and nothing else would tell. */
  keepOnly(start: string): void {
    for (const [socket, of] of this.#all) if (of !== start) socket.destroy();
  }

  override createConnection(_options: unknown, callback?: Callback): undefined {
    const done = callback ?? (() => {});
    const socket = this.#idle.shift();
    if (socket !== undefined) return void process.nextTick(done, null, socket);
    const timer = setTimeout(() => {
      this.#waiting.delete(take);
      const error = new HobError("store_unavailable", `reach the object store: the host has not connected within ${WAIT_MS / 1000} s`);
      // Node takes no socket from a failed connection, whatever its types say.
      (done as (error: Error) => void)(error);
    }, WAIT_MS);
    const take = (found: Duplex) => {
      clearTimeout(timer);
      done(null, found);
    };
    this.#waiting.add(take);
  }

  /** As http.Agent's, without its probes: see `#add`. */
  override keepSocketAlive(socket: Duplex): true {
    (socket as Socket).setTimeout(0).unref();
    return true;
  }

  #add(socket: Socket, start: string): void {
    if (this.#idle.length >= IDLE_MAX) return void socket.destroy();
    this.#all.set(socket, start);
    // No keep-alive from this side: passt of Debian 12 does not answer its probes. With those that an http.Agent asks for, one a
    // second, what rests or waits for an answer would be cut after 11 s. The host asks for a sign of life, and its end closes this one.
    socket.once("close", () => {
      this.#all.delete(socket);
      const at = this.#idle.indexOf(socket);
      if (at >= 0) this.#idle.splice(at, 1);
    });
    const [take] = this.#waiting;
    if (take === undefined) return void this.#idle.push(socket);
    this.#waiting.delete(take);
    take(socket);
  }
}
