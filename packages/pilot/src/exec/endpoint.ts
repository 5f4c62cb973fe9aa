import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { HobError, LIMITS, SPRITE_VERSION, toHobError } from "@hob/protocol";
import type { Logger } from "pino";
import { type WebSocket, WebSocketServer } from "ws";
import type { Endpoint } from "../api/endpoint.ts";
import { refuseRequest, refuseUpgrade } from "../api/refuse.ts";
import type { HelperClient, HelperProcess } from "../helper/index.ts";
import type { PortFeed } from "../ports/port-feed.ts";
import { tellPorts } from "../ports/session-frames.ts";
import type { ExecContainer } from "./container.ts";
import { HttpClient } from "./http-client.ts";
import { type ExecRequest, matchExecRoute, parseExecRequest, toExecSpec } from "./request.ts";
import { SessionRegistry } from "./sessions.ts";
import { WebSocketClient } from "./websocket-client.ts";

export interface ExecDependencies {
  readonly helper: Pick<HelperClient, "exec">;
  readonly container: ExecContainer;
  readonly log: Pick<Logger, "debug" | "info" | "warn">;
  /** tells terminal sessions which ports are opened and closed meanwhile; default nothing */
  readonly ports?: Pick<PortFeed, "subscribe">;
  /** the sprite's own variables, under those of the request; default none */
  readonly environment?: () => Readonly<Record<string, string>>;
}

/** The public exec endpoint of one sprite. Authorization is the caller's: it calls only for permitted requests. */
export class ExecEndpoint implements Endpoint {
  readonly sessions = new SessionRegistry();
  readonly #dependencies: ExecDependencies;
  readonly #webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: LIMITS.webSocketMessageBytes });
  readonly #removeHook: () => void;

  constructor(dependencies: ExecDependencies) {
    this.#dependencies = dependencies;
    this.#removeHook = dependencies.container.onStopped(() => this.sessions.containerStopped());
    this.#webSockets.on("headers", (headers) => {
      headers.push(`Sprite-Version: ${SPRITE_VERSION}`, "X-Sprite-Capabilities: signal");
    });
  }

  /** Takes an upgrade of `GET …/exec` or `…/control`. @returns false if it is for another route */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    // A client may reset the connection at any time; without a listener that would end the pilot.
    socket.on("error", () => socket.destroy());
    return this.#take(
      request,
      (error) => refuseUpgrade(socket, error),
      (parameters) => this.#startWebSocket(request, socket, head, parameters),
    );
  }

  /** Takes `POST …/exec`, and any method of `…/control`. @returns false if the request is for another route */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    if (request.method !== "POST" && matchesExec(request)) return false;
    return this.#take(
      request,
      (error) => refuseRequest(request, response, error),
      (parameters) => this.#startHttp(request, response, parameters),
    );
  }

  /** Hangs up all sessions. */
  async close(): Promise<void> {
    this.#removeHook();
    await this.sessions.closeAll();
    this.#webSockets.close();
  }

  #take(request: IncomingMessage, refuse: (error: HobError) => void, start: (parameters: URLSearchParams) => Promise<void>): boolean {
    try {
      const match = matchExecRoute(request.url ?? "");
      if (match === undefined) return false;
      if (match.route === "control") {
        refuse(new HobError("not_found", "control: not offered", { hint: "open one WebSocket per exec" }));
      } else {
        start(match.parameters).catch((error) => this.#refused(error, refuse));
      }
    } catch (error) {
      this.#refused(error, refuse);
    }
    return true;
  }

  /** Only the code is logged: messages may repeat what the client sent. */
  #refused(thrown: unknown, refuse: (error: HobError) => void): void {
    const error = toHobError(thrown);
    if (error.status >= 500) this.#dependencies.log.warn({ code: error.code, errno: error.details.errno }, "exec failed to start");
    refuse(error);
  }

  async #startProcess(request: ExecRequest): Promise<HelperProcess> {
    const { helper, container, environment } = this.#dependencies;
    if (container.state() !== "running") {
      throw new HobError("container_stopped", "exec: the sprite's container does not run", { hint: "repeat the request in a moment" });
    }
    return helper.exec({ ...toExecSpec(request, environment?.() ?? {}), target: container.target() });
  }

  /** The process is there before the 101: whatever prevents it becomes a proper HTTP error. */
  async #startWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer, parameters: URLSearchParams): Promise<void> {
    const parsed = parseExecRequest(parameters);
    const process = await this.#startProcess(parsed);
    if (socket.destroyed) return process.close();
    let upgraded = false;
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket: WebSocket) => {
      upgraded = true;
      const client = new WebSocketClient(webSocket, parsed.stdin);
      client.attach(this.sessions.add(process, sessionOptions(parsed), client));
      const { ports } = this.#dependencies;
      if (parsed.tty !== undefined && ports !== undefined) tellPorts(ports, webSocket);
    });
    // `ws` has answered a malformed handshake itself.
    if (!upgraded) process.close();
  }

  async #startHttp(request: IncomingMessage, response: ServerResponse, parameters: URLSearchParams): Promise<void> {
    const parsed = parseExecRequest(withoutTty(parameters));
    if (parameters.getAll("cmd").length === 0) throw new HobError("invalid_request", "exec: parameter cmd: at least one expected");
    if (Number(request.headers["content-length"] ?? 0) > LIMITS.httpExecBodyBytes) {
      throw new HobError("payload_too_large", `exec: a body of at most ${LIMITS.httpExecBodyBytes} bytes is possible`, {
        hint: "use the WebSocket for more input",
      });
    }
    const process = await this.#startProcess(parsed);
    if (response.destroyed) return process.close();
    const client = new HttpClient(request, response);
    client.attach(this.sessions.add(process, sessionOptions(parsed), client), parsed.stdin);
  }
}

/** Serves the exec endpoint's upgrades on a server; plain requests are for the caller to pass to `handle`. */
export function registerExec({ server, ...dependencies }: ExecDependencies & { readonly server: Server }): ExecEndpoint {
  const endpoint = new ExecEndpoint(dependencies);
  server.on("upgrade", (request, socket, head) => endpoint.upgrade(request, socket, head));
  return endpoint;
}

const sessionOptions = (request: ExecRequest) => ({
  command: request.argv.join(" "),
  tty: request.tty,
  maxRunAfterDisconnectMs: request.maxRunAfterDisconnectMs,
});

const matchesExec = (request: IncomingMessage): boolean => /\/exec(\?|$)/.test(request.url ?? "");

/** HTTP exec has no terminal. */
function withoutTty(parameters: URLSearchParams): URLSearchParams {
  const copy = new URLSearchParams(parameters);
  copy.delete("tty");
  return copy;
}
