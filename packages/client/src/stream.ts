import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError } from "./errors.ts";
import { authorization, type Endpoint, requestTarget } from "./http.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

/** Milliseconds until the server has begun to answer. A sleeping sprite may have to be booted for it. */
const ANSWER_TIMEOUT_MS = 180_000;

export interface StreamOptions {
  query?: Readonly<Record<string, string | undefined>>;
  headers?: Readonly<Record<string, string | string[]>>;
  body?: string | Uint8Array | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Sends a request and gives the answer as it comes, whatever its status; its body has no bound in time.
 * @throws HobError `cannot_connect` | `connection_lost` | `timeout`
 */
export async function openStream(endpoint: Endpoint, method: string, path: string, options: StreamOptions = {}): Promise<IncomingMessage> {
  const { request } = endpoint.url.protocol === "https:" ? await import("node:https") : await import("node:http");
  const { query, headers, body, signal } = options;
  const what = `${method} ${path.split("?", 1)[0]}`;
  return new Promise((resolve, reject) => {
    const outgoing = request({
      method,
      protocol: endpoint.url.protocol,
      hostname: endpoint.url.hostname.replace(/^\[|\]$/g, ""),
      port: endpoint.url.port,
      path: requestTarget(endpoint, path, query),
      agent: false,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        ...authorization(endpoint),
        ...(body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }),
        ...headers,
      },
    });
    const late = () => outgoing.destroy(new HobError("timeout", `${what}: no answer within ${ANSWER_TIMEOUT_MS / 1_000} s`));
    const timer = setTimeout(late, ANSWER_TIMEOUT_MS);
    refuseUnaskedUpgrade(outgoing);
    outgoing.once("close", () => clearTimeout(timer));
    outgoing.once("error", (error) => reject(connectionError(what, endpoint.url.origin, error)));
    outgoing.once("response", (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    outgoing.end(body);
  });
}
