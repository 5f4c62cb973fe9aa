import { type Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { REQUEST_ID_HEADER, STARTING_HEADER } from "@hob/protocol";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";
import { hasBody, requestHeaders } from "./headers.ts";

/** Milliseconds for the TCP handshake with the pilot. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Milliseconds in which a pilot must have answered an upgrade: clients give up after 10 to 30 s. */
const UPGRADE_TIMEOUT_MS = 30_000;

const RESPONSE_HEADER_BYTES_MAX = 64 * 1024;

/** What a pilot answered: a response, or the socket of an accepted upgrade with the bytes that came with it. */
export type Answer =
  | {
      kind: "response";
      request: ClientRequest;
      response: IncomingMessage;
      /** a conflict beside a try that was lost after it: it may only say that the other one had arrived */
      isDoubtful?: boolean;
    }
  | { kind: "upgrade"; response: IncomingMessage; socket: Socket; head: Buffer };

/** What is sent. */
export interface Message {
  client: IncomingMessage;
  /** target at the pilot */
  path: string;
  upgrade: boolean;
  /** name of the request: a pilot takes it once */
  id: string;
}

/** One of the two ends a try; the first may come before. */
export interface TryEvents {
  /** the pilot has taken the request, and wants its body */
  onContinue: () => void;
  onAnswer: (answer: Answer) => void;
  onLost: (lost: LostAttempt) => void;
}

/** A try that failed before an answer. */
export class LostAttempt extends Error {
  /** nothing of the client's body is gone, so that the request can be sent again under its name */
  readonly repeatable: boolean;
  /** it was sent, so that a pilot may have taken it; false: none has */
  readonly mayBeTaken: boolean;

  constructor(repeatable: boolean, mayBeTaken: boolean, cause: Error) {
    super(cause.message, { cause });
    this.repeatable = repeatable;
    this.mayBeTaken = mayBeTaken;
  }
}

/** A request on its way on one connection. Its body waits until the pilot asks for it. */
export class Try {
  readonly #client: IncomingMessage;
  readonly #outgoing: ClientRequest;
  readonly #upgrade: boolean;
  readonly #events: TryEvents;
  #timer: NodeJS.Timeout | undefined;
  #isSent = false;
  #bodyBegun = false;
  #isOver = false;

  constructor({ client, path, upgrade, id }: Message, endpoint: PilotEndpoint, agent: Agent | false, events: TryEvents) {
    this.#client = client;
    this.#upgrade = upgrade;
    this.#events = events;
    const body = hasBody(client);
    this.#outgoing = httpRequest({
      host: endpoint.host,
      port: endpoint.port,
      method: client.method,
      path,
      // "keep-alive" also where the connection is not kept: a pilot that answers without reading the whole body would
      // else close at once, and the reset that follows would overtake its answer.
      headers: requestHeaders(client, endpoint, [
        ...(upgrade ? ["Connection", "Upgrade", "Upgrade", "websocket"] : ["Connection", "keep-alive"]),
        ...(body ? ["Expect", "100-continue"] : []),
        ...[REQUEST_ID_HEADER, id],
      ]),
      agent,
      maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
    });
    this.#listen();
    if (body) this.#outgoing.flushHeaders();
    else this.#outgoing.end();
  }

  /** The client's body goes this way. */
  sendBody(): void {
    if (this.#bodyBegun) return;
    this.#bodyBegun = true;
    sendBody(this.#client, this.#outgoing);
  }

  /**
   * Gives the try up, by a reset: passt of Debian 12 spins for seconds on a connection that was closed in good order before
   * the guest has accepted it.
   */
  cancel(): void {
    this.#end(() => {});
    this.#outgoing.socket?.resetAndDestroy();
    this.#outgoing.destroy();
  }

  #listen(): void {
    const outgoing = this.#outgoing;
    outgoing.once("socket", (socket) => {
      socket.setKeepAlive(true, 30_000);
      if (!socket.connecting) return this.#connected();
      this.#timer = this.#deadline(CONNECT_TIMEOUT_MS, "no connection");
      socket.once("connect", () => this.#connected());
    });
    // Stays for the life of the request: an error after the answer shows on the answer itself, or does not matter.
    outgoing.on("error", (error) => this.#end(() => this.#events.onLost(new LostAttempt(!this.#bodyBegun, this.#isSent, error))));
    outgoing.once("continue", () => {
      if (!this.#isOver) this.#events.onContinue();
    });
    outgoing.once("response", (response) => this.#end(() => this.#answered({ kind: "response", request: outgoing, response })));
    outgoing.once("upgrade", (response, socket, head) => {
      if (this.#isOver) return void socket.destroy();
      this.#end(() => this.#answered({ kind: "upgrade", response, socket, head }));
    });
  }

  #connected(): void {
    this.#isSent = true;
    clearTimeout(this.#timer);
    if (this.#upgrade && !this.#isOver) this.#timer = this.#deadline(UPGRADE_TIMEOUT_MS, "no answer to the upgrade");
  }

  #answered(answer: Answer): void {
    const { response } = answer;
    response.on("error", () => {});
    if (response.headers[STARTING_HEADER] !== undefined && !this.#bodyBegun) {
      this.#outgoing.destroy();
      this.#events.onLost(new LostAttempt(true, false, new Error("the pilot is being started")));
      return;
    }
    // It has answered without the body, which never goes out: nothing else would end the request.
    if (!this.#bodyBegun && hasBody(this.#client)) response.once("close", () => this.#outgoing.destroy());
    this.#events.onAnswer(answer);
  }

  #end(then: () => void): void {
    clearTimeout(this.#timer);
    if (this.#isOver) return;
    this.#isOver = true;
    then();
  }

  #deadline(ms: number, what: string): NodeJS.Timeout {
    return setTimeout(() => this.#outgoing.destroy(new Error(`${what} within ${ms / 1000} s`)), ms);
  }
}

/**
 * Streams the body; `pipe` stops reading the client while the pilot does not take more. Not `pipeline`: it would
 * destroy the client's connection, and with it the answer, when a pilot answers without reading the whole body.
 */
export function sendBody(client: IncomingMessage, outgoing: ClientRequest): void {
  client.pipe(outgoing);
  client.once("error", (error) => outgoing.destroy(error));
  client.once("close", () => {
    if (!client.readableEnded) outgoing.destroy();
  });
  outgoing.once("close", () => {
    client.unpipe(outgoing);
    client.resume();
  });
}
