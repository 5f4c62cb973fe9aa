import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { HobError, LIMITS, SPRITE_VERSION, toHobError } from "@hob/protocol";
import type { Hono } from "hono";
import type { Logger } from "pino";
import { type WebSocket, WebSocketServer } from "ws";
import type { Endpoint } from "../api/endpoint.ts";
import { refuseRequest, refuseUpgrade } from "../api/refuse.ts";
import type { HelperClient, HelperProcess } from "../helper/index.ts";
import type { PortFeed } from "../ports/port-feed.ts";
import { tellPorts } from "../ports/session-frames.ts";
import { attachPoint } from "./attach-point.ts";
import type { ExecContainer } from "./container.ts";
import { HttpClient } from "./http-client.ts";
import type { JournalStore } from "./journal/index.ts";
import { type ExecRequest, type ExecRoute, matchExecRoute, parseAttachRequest, parseExecRequest, toExecSpec } from "./request.ts";
import { sessionRoutes } from "./routes.ts";
import type { Session } from "./session.ts";
import { SessionRegistry } from "./sessions.ts";
import { WebSocketClient } from "./websocket-client.ts";

export interface ExecDependencies {
  readonly helper: Pick<HelperClient, "exec">;
  readonly container: ExecContainer;
  readonly log: Pick<Logger, "debug" | "info" | "warn">;
  readonly journals: JournalStore;
  /** tells terminal sessions which ports are opened and closed meanwhile; default nothing */
  readonly ports?: Pick<PortFeed, "subscribe">;
  /** called when a session writes, or a client does something: output keeps a sprite awake, also with nobody attached */
  readonly onActivity?: () => void;
  /** the sprite's own variables, under those of the request; default none */
  readonly environment?: () => Readonly<Record<string, string>>;
}

/** The public exec endpoint of one sprite. Authorization is the caller's: it calls only for permitted requests. */
export class ExecEndpoint implements Endpoint {
  readonly sessions: SessionRegistry;
  /** list and kill */
  readonly routes: Hono;
  readonly #dependencies: ExecDependencies;
  readonly #webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: LIMITS.webSocketMessageBytes });
  readonly #removeHook: () => void;

  constructor(dependencies: ExecDependencies) {
    this.#dependencies = dependencies;
    this.sessions = new SessionRegistry(dependencies.journals, ({ code }) =>
      dependencies.log.warn({ errno: code }, "output of a session cannot be kept on disk"),
    );
    this.routes = sessionRoutes(this.sessions);
    this.#removeHook = dependencies.container.onStopped(() => this.sessions.containerStopped());
    this.#webSockets.on("headers", (headers) => {
      headers.push(`Sprite-Version: ${SPRITE_VERSION}`, "X-Sprite-Capabilities: signal");
    });
  }

  /** Takes over what a pilot before this one left. The volume must be there. */
  async open(): Promise<void> {
    await this.sessions.open();
  }

  /** Takes an upgrade of `GET …/exec`, `…/exec/ID` or `…/control`. @returns false if it is for another route */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    // A client may reset the connection at any time; without a listener that would end the pilot.
    socket.on("error", () => socket.destroy());
    return this.#take(
      request,
      (error) => refuseUpgrade(socket, error),
      async ({ sessionId, parameters }) => {
        if (sessionId === undefined) await this.#startWebSocket(request, socket, head, parameters);
        else this.#attachWebSocket(request, socket, head, sessionId, parameters);
      },
    );
  }

  /** Takes `POST …/exec`, and any method of `…/control`. @returns false if the request is for another route */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const [path = ""] = (request.url ?? "").split("?", 1);
    // Lists and kills are plain routes.
    if (!path.endsWith("/control") && !(request.method === "POST" && path.endsWith("/exec"))) return false;
    return this.#take(
      request,
      (error) => refuseRequest(request, response, error),
      ({ parameters }) => this.#startHttp(request, response, parameters),
    );
  }

  /** Hangs up all sessions. */
  async close(): Promise<void> {
    this.#removeHook();
    await this.sessions.closeAll();
    this.#webSockets.close();
  }

  #take(request: IncomingMessage, refuse: (error: HobError) => void, start: (route: ExecRoute) => Promise<void>): boolean {
    try {
      const match = matchExecRoute(request.url ?? "");
      if (match === undefined) return false;
      if (match.route === "control") {
        refuse(new HobError("not_found", "control: not offered", { hint: "open one WebSocket per exec" }));
      } else {
        start(match).catch((error) => this.#refused(error, refuse));
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

  #addSession(process: HelperProcess, request: ExecRequest): Session {
    const { argv, cwd, tty, maxRunAfterDisconnectMs, stdin } = request;
    const about = { command: argv.join(" "), workdir: cwd, created: Date.now(), ...(tty === undefined ? {} : { tty }) };
    const session = this.sessions.add(process, { about, maxRunAfterDisconnectMs, onActivity: this.#dependencies.onActivity });
    if (!stdin) session.endInput();
    return session;
  }

  /** The process is there before the 101: whatever prevents it becomes a proper HTTP error. */
  async #startWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer, parameters: URLSearchParams): Promise<void> {
    const parsed = parseExecRequest(parameters);
    const process = await this.#startProcess(parsed);
    if (socket.destroyed) return process.close();
    let upgraded = false;
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket: WebSocket) => {
      upgraded = true;
      const session = this.#addSession(process, parsed);
      new WebSocketClient(webSocket, session, parsed.stdin).attach();
      session.start();
      this.#tellPorts(session, webSocket);
    });
    // `ws` has answered a malformed handshake itself.
    if (!upgraded) process.close();
  }

  #attachWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer, id: string, parameters: URLSearchParams): void {
    const parsed = parseAttachRequest(parameters);
    const session = this.sessions.get(decodeId(id));
    const point = attachPoint(session, parsed.outputOffset);
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket: WebSocket) => {
      if (parsed.maxRunAfterDisconnectMs !== undefined) session.setMaxRunAfterDisconnect(parsed.maxRunAfterDisconnectMs);
      new WebSocketClient(webSocket, session, parsed.stdin ?? session.about.tty !== undefined).attach(point);
      if (parsed.size !== undefined) session.redraw(parsed.size);
      this.#tellPorts(session, webSocket);
    });
  }

  #tellPorts(session: Pick<Session, "about">, webSocket: WebSocket): void {
    const { ports } = this.#dependencies;
    if (session.about.tty !== undefined && ports !== undefined) tellPorts(ports, webSocket);
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
    const session = this.#addSession(process, parsed);
    new HttpClient(request, response, session).attach(parsed.stdin);
    session.start();
  }
}

/** Serves the exec endpoint's upgrades on a server; plain requests are for the caller to pass to `handle`. */
export function registerExec({ server, ...dependencies }: ExecDependencies & { readonly server: Server }): ExecEndpoint {
  const endpoint = new ExecEndpoint(dependencies);
  server.on("upgrade", (request, socket, head) => endpoint.upgrade(request, socket, head));
  return endpoint;
}

/** What is no encoded text is no id of ours either. */
function decodeId(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** HTTP exec has no terminal. */
function withoutTty(parameters: URLSearchParams): URLSearchParams {
  const copy = new URLSearchParams(parameters);
  copy.delete("tty");
  return copy;
}
