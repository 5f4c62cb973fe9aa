import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { HobError, toHobError } from "@hob/protocol";
import type { Logger } from "pino";
import { logError } from "../api/error-answer.ts";
import { isCut, joinUpgraded, passOn, whileClientWaits } from "../front-door/pass-on.ts";
import type { Answer } from "../front-door/try.ts";
import { UpgradedConnections } from "../front-door/upgraded-connections.ts";
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
  readonly #upgraded = new UpgradedConnections();

  constructor(parts: IngressParts) {
    this.#parts = parts;
  }

  /** Upgraded connections that are open. */
  get sessionCount(): number {
    return this.#upgraded.count;
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
    const response = this.#upgraded.add(request, socket);
    try {
      const path = applicationTarget(request.url ?? "");
      if (ownRoute(path) !== undefined) throw new HobError("not_found", "upgrade: no such route of Hob");
      const answer = await this.#ask(request, response, target, path, true);
      if (answer.kind === "response") return await forward(answer, response);
      response.detachSocket(socket as Socket);
      await joinUpgraded(answer, socket, head, answerHeaders(answer.response));
    } catch (error) {
      this.#refuse(request, response, target, error);
    }
  }

  /** Cuts all upgraded connections. */
  closeSessions(): void {
    this.#upgraded.close();
  }

  #ask(request: IncomingMessage, response: ServerResponse, target: UrlTarget, path: string, upgrade: boolean): Promise<Answer> {
    const { access, exchange } = this.#parts;
    const { name, authority } = target;
    return whileClientWaits(response, async (signal) => {
      const record = await access.admit(request, name, upgrade);
      return await exchange.send({ client: request, response, record, authority, path, upgrade, signal });
    });
  }

  #refuse(request: IncomingMessage, response: ServerResponse, { name }: UrlTarget, thrown: unknown): void {
    if (isCut(response)) {
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

/** The answer goes out as it comes in. */
async function forward(answer: Extract<Answer, { kind: "response" }>, response: ServerResponse): Promise<void> {
  try {
    response.writeHead(answer.response.statusCode ?? 502, answer.response.statusMessage, answerHeaders(answer.response));
  } catch (error) {
    answer.request.destroy();
    throw new HobError("app_failed", "pass the answer of the server in the sprite on: it is not HTTP", { cause: error });
  }
  response.socket?.setNoDelay(true);
  await passOn(answer, response);
}
