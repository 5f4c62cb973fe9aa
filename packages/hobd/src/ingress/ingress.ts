import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HobError, toHobError } from "@hob/protocol";
import type { Logger } from "pino";
import { logError } from "../api/error-answer.ts";
import { bareResponse } from "../front-door/bare-response.ts";
import { splice } from "../front-door/splice.ts";
import type { Answer } from "../front-door/upstream.ts";
import type { UrlAccess } from "./access.ts";
import type { ApplicationExchange } from "./exchange.ts";
import { answerHeaders } from "./headers.ts";
import { applicationTarget, type HostTarget } from "./host.ts";
import { type OwnRoutes, ownRoute } from "./own-routes.ts";
import { sendErrorPage } from "./pages.ts";

export type UrlTarget = Extract<HostTarget, { kind: "url" }>;

export interface IngressParts {
  access: UrlAccess;
  exchange: ApplicationExchange;
  ownRoutes: OwnRoutes;
  log: Logger;
}

/**
 * Serves the sprites' URLs: a reverse proxy whose other end is inside a sprite, streaming both ways. Paths, queries,
 * cookies and tokens are never logged.
 */
export class Ingress {
  readonly #parts: IngressParts;
  readonly #sessions = new Set<Duplex>();

  constructor(parts: IngressParts) {
    this.#parts = parts;
  }

  /** Upgraded connections that are open. */
  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Answers one request; never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, target: UrlTarget): Promise<void> {
    try {
      const path = applicationTarget(request.url ?? "");
      const own = ownRoute(path);
      if (own !== undefined) return await this.#parts.ownRoutes.serve(request, response, target.name, own);
      const answer = await this.#ask(request, response, target, path, false);
      if (answer.kind === "upgrade") {
        answer.socket.destroy();
        throw new HobError("app_failed", `open the URL of sprite ${target.name}: the server inside changed the protocol unasked`);
      }
      await forward(answer, response);
    } catch (error) {
      this.#refuse(request, response, target, error);
    }
  }

  /** Answers one upgrade request on its bare socket; never rejects. */
  async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, target: UrlTarget): Promise<void> {
    socket.on("error", () => socket.destroy());
    this.#sessions.add(socket);
    socket.once("close", () => this.#sessions.delete(socket));
    const response = bareResponse(request, socket);
    try {
      const path = applicationTarget(request.url ?? "");
      if (ownRoute(path) !== undefined) throw new HobError("not_found", "upgrade: no such route of Hob");
      const answer = await this.#ask(request, response, target, path, true);
      if (answer.kind === "response") return await forward(answer, response);
      response.detachSocket(socket as Socket);
      await join(answer, socket, head);
    } catch (error) {
      this.#refuse(request, response, target, error);
    }
  }

  /** Cuts all upgraded connections. */
  closeSessions(): void {
    for (const socket of this.#sessions) socket.destroy();
  }

  async #ask(request: IncomingMessage, response: ServerResponse, target: UrlTarget, path: string, upgrade: boolean): Promise<Answer> {
    const gone = new AbortController();
    const abort = () => gone.abort();
    response.once("close", abort);
    const { access, exchange } = this.#parts;
    const record = await access.admit(request, target.name, upgrade);
    const { authority } = target;
    const answer = await exchange.send({ client: request, response, record, authority, path, upgrade, signal: gone.signal });
    response.off("close", abort);
    return answer;
  }

  #refuse(request: IncomingMessage, response: ServerResponse, { name }: UrlTarget, thrown: unknown): void {
    // A stream cut by either side: the other side has been cut too, and there is nobody left to tell.
    if (response.headersSent || response.destroyed || response.socket?.destroyed !== false) {
      this.#parts.log.debug({ sprite: name, err: thrown }, "stream of a URL ended early");
      response.destroy();
      return;
    }
    const error = toHobError(thrown);
    // What an application does wrong is no fault of Hob's.
    if (error.code === "nothing_listens" || error.code === "app_failed")
      this.#parts.log.debug({ sprite: name, code: error.code }, "no answer");
    else logError(this.#parts.log, error, { method: request.method, path: `the URL of ${name}` });
    // A body that nobody reads any more: the connection cannot be used again.
    if (!request.complete) response.setHeader("Connection", "close");
    sendErrorPage(request, response, error);
  }
}

/** The answer goes out as it comes in. Headers first: a stream of events may have no byte of body for a long time. */
async function forward({ request, response: answer }: Extract<Answer, { kind: "response" }>, response: ServerResponse): Promise<void> {
  try {
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, answerHeaders(answer));
  } catch (error) {
    request.destroy();
    throw new HobError("app_failed", "pass the answer of the server in the sprite on: it is not HTTP", { cause: error });
  }
  response.socket?.setNoDelay(true);
  response.flushHeaders();
  try {
    await pipeline(answer, response);
  } finally {
    if (!answer.complete) request.destroy();
  }
}

/** Sends the application's 101 with its headers, then joins the sockets, beginning with what either side sent early. */
async function join({ response, socket: inside, head: early }: Extract<Answer, { kind: "upgrade" }>, client: Duplex, head: Buffer) {
  inside.on("error", () => inside.destroy());
  const headers = answerHeaders(response);
  const lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"];
  for (let i = 0; i + 1 < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  client.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  if (early.length > 0) client.write(early);
  if (head.length > 0) inside.write(head);
  await splice(client, inside);
}
