import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError } from "./errors.ts";
import { addressOf, authorization, type Endpoint, requester, requestTarget } from "./http.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

/** A sleeping sprite may have to be booted for the answer. */
const ANSWER_TIMEOUT_MS = 180_000;

export interface StreamOptions {
  query?: Readonly<Record<string, string | undefined>>;
  headers?: Readonly<Record<string, string | string[]>>;
  body?: string | Uint8Array | undefined;
  signal?: AbortSignal | undefined;
  /** until the server has begun to answer; default 180 s */
  answerTimeoutMs?: number | undefined;
}

/**
 * Sends a request and gives the answer as it comes, whatever its status; its body has no bound in time.
 * @throws HobError `cannot_connect` | `connection_lost` | `timeout`
 */
export async function openStream(endpoint: Endpoint, method: string, path: string, options: StreamOptions = {}): Promise<IncomingMessage> {
  const request = await requester(endpoint);
  const { query, headers, body, signal, answerTimeoutMs = ANSWER_TIMEOUT_MS } = options;
  const what = `${method} ${path.split("?", 1)[0]}`;
  return new Promise((resolve, reject) => {
    const outgoing = request({
      ...addressOf(endpoint),
      method,
      path: requestTarget(endpoint, path, query),
      ...(signal === undefined ? {} : { signal }),
      headers: {
        ...authorization(endpoint),
        ...(body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }),
        ...headers,
      },
    });
    const late = new HobError("timeout", `${what}: no answer within ${answerTimeoutMs / 1_000} s`, {
      hint: "the daemon's log says what it is doing",
    });
    const timer = setTimeout(() => outgoing.destroy(late), answerTimeoutMs);
    refuseUnaskedUpgrade(outgoing);
    outgoing.once("close", () => clearTimeout(timer));
    // Stays: an error after the answer shows on the answer itself.
    outgoing.on("error", (error) => reject(connectionError(what, endpoint.url.origin, error)));
    outgoing.once("response", (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    outgoing.end(body);
  });
}
