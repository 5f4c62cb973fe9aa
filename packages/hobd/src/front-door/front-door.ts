import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { HobError, SPRITE_VERSION, toHobError } from "@hob/protocol";
import type { Logger } from "pino";
import { logError, sendError } from "../api/error-answer.ts";
import { requireSprite } from "../api/sprite-context.ts";
import type { HistoryReaders } from "../readers/history-readers.ts";
import type { RestAnswers } from "../readers/rest-answers.ts";
import type { SpriteRecord, SpriteRegistry } from "../registry/registry.ts";
import type { Authenticator } from "../tokens/authenticator.ts";
import { hasPrefixedFrames, relayExecFrames } from "./exec-frames.ts";
import { hasBody, responseHeaders } from "./headers.ts";
import { isCut, joinUpgraded, passOn, whileClientWaits } from "./pass-on.ts";
import type { Target } from "./target.ts";
import type { Answer } from "./try.ts";
import { UpgradedConnections } from "./upgraded-connections.ts";
import type { Upstream, UpstreamRequest } from "./upstream.ts";

export const SPRITE_VERSION_HEADER = "Sprite-Version";

export type SpriteTarget = Extract<Target, { kind: "sprite" }>;

export interface FrontDoorParts {
  sprites: SpriteRegistry;
  authenticator: Authenticator;
  upstream: Upstream;
  /** answer for sprites that sleep */
  readers: Pick<HistoryReaders, "lend">;
  /** what sprites that sleep said last */
  rests: Pick<RestAnswers, "answer">;
  log: Logger;
}

/**
 * Passes requests below a sprite's name on to that sprite's pilot, streaming both ways.
 *
 * Written on node:http and not on a proxy library: the library at hand pipes the pilot's answer without looking at
 * its end, so a VM that dies in the middle of an answer leaves the client waiting for ever; and it begins to read the
 * client's body before the pilot is connected, so a request cannot be tried again when the VM has just gone. An
 * upgrade, once accepted, is two sockets joined: no frame is parsed here, which costs least and hides nothing.
 *
 * Query strings carry commands and environment: they are forwarded, and never logged.
 */
export class FrontDoor {
  readonly #parts: FrontDoorParts;
  readonly #upgraded = new UpgradedConnections();

  constructor(parts: FrontDoorParts) {
    this.#parts = parts;
  }

  /** Upgraded connections that are open. */
  get sessionCount(): number {
    return this.#upgraded.count;
  }

  /** Answers one request; never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, target: SpriteTarget): Promise<void> {
    try {
      const answer = await this.#ask(request, response, target, false);
      if (answer.kind === "upgrade") {
        answer.socket.destroy();
        throw new HobError("pilot_unreachable", `reach the pilot of sprite ${target.name}: it changed the protocol unasked`);
      }
      await forward(answer, response);
    } catch (error) {
      this.#refuse(request, response, target, error);
    }
  }

  /** Answers one upgrade request on its bare socket; never rejects. */
  async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, target: SpriteTarget): Promise<void> {
    const response = this.#upgraded.add(request, socket);
    response.setHeader(SPRITE_VERSION_HEADER, SPRITE_VERSION);
    try {
      const answer = await this.#ask(request, response, target, true);
      if (answer.kind !== "upgrade") return await forward(answer, response);
      response.detachSocket(socket as Socket);
      await joinUpgraded(answer, socket, head, upgradeHeaders(answer.response));
    } catch (error) {
      this.#refuse(request, response, target, error);
    }
  }

  /** Cuts all upgraded connections. */
  closeSessions(): void {
    this.#upgraded.close();
  }

  /** Authorization comes first, and an unknown name is told before anything is upgraded or woken. */
  async #ask(request: IncomingMessage, response: ServerResponse, target: SpriteTarget, upgrade: boolean): Promise<Answer | Known> {
    const { authenticator, sprites, upstream, rests } = this.#parts;
    const answer = await whileClientWaits(response, async (signal) => {
      await authenticator.authenticate(request.headers.authorization);
      const record = await requireSprite(sprites, target.name);
      const body = upgrade || hasBody(request) ? undefined : await rests.answer(record, request.method, target.rest);
      if (body !== undefined) return { kind: "known", body } as const;
      const asked = { client: request, record, path: pathAtPilot(record, target), upgrade, signal };
      return (await this.#askReader(asked, target)) ?? (await upstream.send(asked));
    });
    if (answer.kind !== "known" && answer.response.statusCode === 401) {
      // The client was authorized: this is about the pilot's own token, which no client can mend.
      answer.response.destroy();
      throw new HobError("pilot_unreachable", `reach the pilot of sprite ${target.name}: it does not accept the host's token`);
    }
    return answer;
  }

  /** The answer of a reader to a request for history; undefined when there is none, or none that is of use: then the sprite is asked. */
  async #askReader(asked: UpstreamRequest, { rest }: SpriteTarget): Promise<Answer | undefined> {
    const { readers, upstream, log } = this.#parts;
    const reader = asked.upgrade || hasBody(asked.client) ? undefined : await readers.lend(asked.record, asked.client.method, rest);
    if (reader === undefined) return undefined;
    try {
      const answer = await upstream.send({ ...asked, reader });
      const { statusCode = 500 } = answer.response;
      if (statusCode < 500 && statusCode !== 401) return answer;
      reader.discard();
      answer.response.destroy();
      log.warn({ sprite: asked.record.id, statusCode }, "a reader does not answer as it should; the sprite is woken");
    } catch (err) {
      if (asked.signal.aborted) throw err;
      reader.discard();
      log.warn({ sprite: asked.record.id, err }, "a reader does not answer; the sprite is woken");
    }
    return undefined;
  }

  #refuse(request: IncomingMessage, response: ServerResponse, target: SpriteTarget, thrown: unknown): void {
    if (isCut(response)) {
      this.#parts.log.debug({ sprite: target.name, err: thrown }, "stream ended early");
      response.destroy();
      return;
    }
    const error = toHobError(thrown);
    logError(this.#parts.log, error, { method: request.method, path: `/v1/sprites/${target.name.slice(0, 63)}/…` });
    sendError(response, error);
  }
}

/** What the host answers itself. */
interface Known {
  kind: "known";
  body: object;
}

const pathAtPilot = (record: SpriteRecord, target: SpriteTarget): string => `/v1/sprites/${record.name}${target.rest}`;

/** The answer goes out as it comes in. */
async function forward(answer: Extract<Answer, { kind: "response" }> | Known, response: ServerResponse): Promise<void> {
  if (answer.kind === "known") return sendKnown(answer, response);
  response.writeHead(answer.response.statusCode ?? 502, answer.response.statusMessage, responseHeaders(answer.response));
  await passOn(answer, response, hasPrefixedFrames(answer.response) ? relayExecFrames : undefined);
}

/** As the pilot would. Node.js leaves the body out where there is none. */
function sendKnown({ body }: Known, response: ServerResponse): void {
  const text = JSON.stringify(body);
  const headers = {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(text),
    [SPRITE_VERSION_HEADER]: SPRITE_VERSION,
  };
  response.writeHead(200, headers).end(text);
}

/** The pilot's headers of a 101 for the client. */
function upgradeHeaders(response: IncomingMessage): string[] {
  const headers = responseHeaders(response);
  if (response.headers[SPRITE_VERSION_HEADER.toLowerCase()] === undefined) headers.push(SPRITE_VERSION_HEADER, SPRITE_VERSION);
  return headers;
}
