import { type ClientRequest, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { HobError } from "@hob/protocol";
import type { SpriteUses } from "../activity/use.ts";
import { hasBody } from "../front-door/headers.ts";
import type { PilotLocator } from "../front-door/pilot-locator.ts";
import { type Answer, sendBody } from "../front-door/try.ts";
import { whileInUse } from "../front-door/upstream.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { applicationHeaders, expectsContinue } from "./headers.ts";
import { TunnelAgent, type TunnelRequest } from "./tunnel-agent.ts";

/** Less than the 5 s after which a Node.js server closes a connection that it keeps. */
const IDLE_CONNECTION_MS = 4_000;
const IDLE_CONNECTIONS_MAX = 32;
/** Of one sprite, for requests at a time; more wait. Upgraded connections do not count. */
const CONNECTIONS_MAX = 256;
const RESPONSE_HEADER_BYTES_MAX = 256 * 1024;

export interface ApplicationRequest {
  client: IncomingMessage;
  /** told of an interim 100 */
  response: ServerResponse;
  record: SpriteRecord;
  /** host that the client asked */
  authority: string;
  /** target at the application */
  path: string;
  upgrade: boolean;
  /** aborted when the client has gone */
  signal: AbortSignal;
}

/**
 * Sends requests to the applications of sprites. Requests that can have no effect share kept connections and are sent
 * once more when such a connection turns out to have just been closed; all others get a connection of their own, since
 * nothing would tell whether the application had begun to act.
 */
export class ApplicationExchange implements Disposable {
  readonly #kept: TunnelAgent;
  readonly #single: TunnelAgent;
  readonly #uses: SpriteUses;

  constructor(locate: PilotLocator, uses: SpriteUses) {
    this.#uses = uses;
    this.#kept = new TunnelAgent(locate, {
      keepAlive: true,
      timeout: IDLE_CONNECTION_MS,
      maxFreeSockets: IDLE_CONNECTIONS_MAX,
      maxSockets: CONNECTIONS_MAX,
    });
    this.#single = new TunnelAgent(locate, { maxSockets: CONNECTIONS_MAX });
  }

  /**
   * The sprite counts as used until the answer or the upgraded connection has ended.
   * @throws HobError `app_failed`, and what opening a tunnel throws
   */
  send(request: ApplicationRequest): Promise<Answer> {
    const use = { kind: "url", label: `${request.client.method ?? "GET"} to its URL`, holds: true };
    return whileInUse(this.#uses, request.record.id, use, () => this.#send(request));
  }

  async #send(request: ApplicationRequest): Promise<Answer> {
    const { client, upgrade } = request;
    const isSafe = !upgrade && !hasBody(client) && (client.method === "GET" || client.method === "HEAD");
    if (!isSafe) return this.#exchange(request, this.#single);
    try {
      return await this.#exchange(request, this.#kept);
    } catch (error) {
      if (!(error instanceof ClosedWhileKept) || request.signal.aborted) throw error;
      return await this.#exchange(request, this.#single);
    }
  }

  #exchange(request: ApplicationRequest, agent: TunnelAgent): Promise<Answer> {
    const { client, record, response, signal } = request;
    const outgoing = this.#begin(request, agent);
    return new Promise((resolve, reject) => {
      const onAbort = () => outgoing.destroy(new Error("the client has gone"));
      signal.addEventListener("abort", onAbort, { once: true });
      outgoing.once("close", () => signal.removeEventListener("abort", onAbort));
      // Stays for the life of the request: an error after the answer shows on the answer itself, or does not matter.
      outgoing.on("error", (error) => reject(exchangeError(error, outgoing, record)));
      if (expectsContinue(client)) outgoing.on("continue", () => response.writeContinue());
      outgoing.once("response", (answer) => resolve({ kind: "response", request: outgoing, response: answer }));
      outgoing.once("upgrade", (answer, socket, head) => resolve({ kind: "upgrade", response: answer, socket, head }));
      if (hasBody(client)) {
        outgoing.flushHeaders();
        sendBody(client, outgoing);
      } else outgoing.end();
    });
  }

  #begin({ client, record, authority, path, upgrade }: ApplicationRequest, agent: TunnelAgent): ClientRequest {
    const options: TunnelRequest = {
      record,
      agent,
      method: client.method,
      path,
      headers: applicationHeaders(client, authority, upgrade),
      maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
    };
    return httpRequest(options);
  }

  [Symbol.dispose](): void {
    this.#kept.destroy();
    this.#single.destroy();
  }
}

/** The application closed a kept connection when the request was on its way. */
class ClosedWhileKept extends Error {}

function exchangeError(error: Error, outgoing: ClientRequest, record: SpriteRecord): Error {
  if (error instanceof HobError) return error;
  if (outgoing.reusedSocket) return new ClosedWhileKept(error.message, { cause: error });
  return new HobError(
    "app_failed",
    `open the URL of sprite ${record.name}: the server inside closed the connection, or does not speak HTTP`,
    {
      hint: "look at the server's own log inside the sprite",
      cause: error,
    },
  );
}
