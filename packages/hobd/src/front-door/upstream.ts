import { randomUUID } from "node:crypto";
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { HobError, REQUEST_ID_HEADER } from "@hob/protocol";
import { describeUse, type SpriteUses, type Use } from "../activity/use.ts";
import type { ReaderLease } from "../readers/reader-pool.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";
import { hasBody, requestHeaders } from "./headers.ts";
import type { PilotLocator } from "./pilot-locator.ts";

/** Milliseconds for the TCP handshake with the pilot. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Milliseconds in which a pilot must have answered an upgrade: clients give up after 10 to 30 s. */
const UPGRADE_TIMEOUT_MS = 30_000;

const RESPONSE_HEADER_BYTES_MAX = 64 * 1024;

/** Times a request is sent at most. Under load the network before a pilot loses a connection now and then, seldom two. */
const ATTEMPTS = 3;

/** Milliseconds an idle connection to a pilot is kept: less than the pilot's own 5 s (Node's default). */
const IDLE_CONNECTION_MS = 4_000;

/** What a pilot answered: a response, or the socket of an accepted upgrade with the bytes that came with it. */
export type Answer =
  | { kind: "response"; request: ClientRequest; response: IncomingMessage }
  | { kind: "upgrade"; response: IncomingMessage; socket: Socket; head: Buffer };

export interface UpstreamRequest {
  client: IncomingMessage;
  record: SpriteRecord;
  /** target at the pilot */
  path: string;
  upgrade: boolean;
  /** aborted when the client has gone */
  signal: AbortSignal;
  /** who is asked in place of the sprite, which then does not count as used */
  reader?: ReaderLease;
}

/**
 * Sends requests to pilots.
 *
 * A request is tried again, through the locator, which starts a VM that has gone, only when the lost try cannot have
 * an effect twice: the connection was never made, or no body was on its way. That the connection was made says little:
 * passt accepts for the pilot before the pilot does. So requests with an effect, an exec above all, carry a name of
 * their own, and a pilot takes each name once (`protocol/src/pilot.ts`). GET and HEAD share kept connections;
 * everything else gets a connection of its own.
 */
export class Upstream implements Disposable {
  readonly #locate: PilotLocator;
  readonly #uses: SpriteUses;
  readonly #agent = new Agent({ keepAlive: true, timeout: IDLE_CONNECTION_MS, maxFreeSockets: 8 });

  constructor(locate: PilotLocator, uses: SpriteUses) {
    this.#locate = locate;
    this.#uses = uses;
  }

  /**
   * The sprite counts as used from here on, until the answer or the upgraded connection has ended.
   * @throws HobError `pilot_unreachable` | what the locator throws
   */
  async send(request: UpstreamRequest): Promise<Answer> {
    const { client, record, path, upgrade, reader } = request;
    if (reader !== undefined) return whileHeld(reader, () => this.#sendUntilAnswered(request));
    return whileInUse(this.#uses, record.id, describeUse(client.method, path, upgrade), () => this.#sendUntilAnswered(request));
  }

  async #sendUntilAnswered(request: UpstreamRequest): Promise<Answer> {
    const id = randomUUID();
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#attempt(request, id, attempt === 1);
      } catch (error) {
        if (!(error instanceof LostAttempt)) throw error;
        if (!error.repeatable || request.signal.aborted || attempt === ATTEMPTS) throw unreachable(request.record, error);
      }
    }
  }

  /** @param kept whether a connection that was kept may do: one that a pilot has left may be one of several */
  async #attempt(request: UpstreamRequest, id: string, kept: boolean): Promise<Answer> {
    const endpoint = request.reader?.endpoint ?? (await this.#locate(request.record));
    if (request.signal.aborted) throw new LostAttempt(false, new Error("the client has gone"));
    return this.#exchange(request, endpoint, id, kept);
  }

  #exchange(request: UpstreamRequest, endpoint: PilotEndpoint, id: string, kept: boolean): Promise<Answer> {
    const { client, upgrade, signal } = request;
    const body = hasBody(client);
    const safe = !upgrade && !body && (client.method === "GET" || client.method === "HEAD");
    const outgoing = httpRequest({
      host: endpoint.host,
      port: endpoint.port,
      method: client.method,
      path: request.path,
      // "keep-alive" also where the connection is not kept: a pilot that answers without reading the whole body would
      // else close at once, and the reset that follows would overtake its answer.
      headers: requestHeaders(client, endpoint, [
        ...(upgrade ? ["Connection", "Upgrade", "Upgrade", "websocket"] : ["Connection", "keep-alive"]),
        ...(safe ? [] : [REQUEST_ID_HEADER, id]),
      ]),
      agent: safe && kept ? this.#agent : false,
      maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
    });
    return new Promise((resolve, reject) => {
      let connected = false;
      let timer: NodeJS.Timeout | undefined;
      const onAbort = () => outgoing.destroy(new Error("the client has gone"));
      signal.addEventListener("abort", onAbort, { once: true });
      const settle = (end: () => void) => {
        clearTimeout(timer);
        end();
      };
      const onConnected = () => {
        connected = true;
        clearTimeout(timer);
        if (upgrade) timer = deadline(outgoing, UPGRADE_TIMEOUT_MS, "no answer to the upgrade");
        if (body) sendBody(client, outgoing);
        else outgoing.end();
      };
      outgoing.once("socket", (socket) => {
        socket.setKeepAlive(true, 30_000);
        if (!socket.connecting) return onConnected();
        timer = deadline(outgoing, CONNECT_TIMEOUT_MS, "no connection");
        socket.once("connect", onConnected);
      });
      // Stays for the life of the request: an error after the answer shows on the answer itself, or does not matter.
      outgoing.on("error", (error) => settle(() => reject(new LostAttempt(!connected || !body, error))));
      outgoing.once("close", () => signal.removeEventListener("abort", onAbort));
      outgoing.once("response", (response) => settle(() => resolve({ kind: "response", request: outgoing, response })));
      outgoing.once("upgrade", (response, socket, head) => settle(() => resolve({ kind: "upgrade", response, socket, head })));
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** Has a sprite count as used from now until the answer, or the connection that it opened, has ended. */
export function whileInUse(uses: SpriteUses, id: string, use: Use, send: () => Promise<Answer>): Promise<Answer> {
  return whileHeld(uses.begin(id, use), send);
}

/** Gives back what is held when the answer, or the connection that it opened, has ended. */
async function whileHeld(held: Disposable, send: () => Promise<Answer>): Promise<Answer> {
  const end = () => held[Symbol.dispose]();
  try {
    const answer = await send();
    (answer.kind === "upgrade" ? answer.socket : answer.response).once("close", end);
    return answer;
  } catch (error) {
    end();
    throw error;
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

const deadline = (outgoing: ClientRequest, ms: number, what: string): NodeJS.Timeout =>
  setTimeout(() => outgoing.destroy(new Error(`${what} within ${ms / 1000} s`)), ms);

/** One try that failed before an answer. */
class LostAttempt extends Error {
  readonly repeatable: boolean;

  constructor(repeatable: boolean, cause: Error) {
    super(cause.message, { cause });
    this.repeatable = repeatable;
  }
}

const unreachable = (record: SpriteRecord, error: Error): HobError =>
  new HobError("pilot_unreachable", `reach the pilot of sprite ${record.name}: no answer`, {
    hint: "try again; if it stays so, restart the sprite",
    cause: error,
  });
