import type { IncomingMessage, RequestOptions } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

export type Method = "GET" | "POST" | "PUT" | "DELETE";

/** Where the API is and how to be let in. */
export interface Endpoint {
  /** http: or https: URL, without /v1 */
  readonly url: URL;
  readonly token: string | undefined;
}

export interface CallOptions {
  /** JSON request body */
  body?: unknown;
  query?: Readonly<Record<string, string | undefined>>;
  headers?: Readonly<Record<string, string>>;
  /** bound on the whole exchange, body included */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface Answer {
  status: number;
  body: string;
}

/** A bound for what goes on until the user ends it: as much as a timer holds, 24 days. */
export const LONGEST_MS = 2 ** 31 - 1;

/** More than a full page of the largest sprites; a server that sends more is not ours. */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;

/**
 * One HTTP exchange. node:http and not fetch(): loading fetch costs a short-lived CLI more than the request itself.
 * @throws HobError what the server said, or `cannot_connect` | `connection_lost` | `timeout`
 */
export async function call(endpoint: Endpoint, method: Method, path: string, options: CallOptions): Promise<Answer> {
  const what = `${method} ${path}`;
  const answer = await exchange(endpoint, method, path, options, what);
  if (answer.status < 200 || answer.status > 299) throw errorFromAnswer(what, answer.status, answer.body);
  return answer;
}

/** As `call`, for answers that carry JSON. @throws HobError `bad_answer` if they do not */
export async function callJson<T>(endpoint: Endpoint, method: Method, path: string, options: CallOptions): Promise<T> {
  const { body } = await call(endpoint, method, path, options);
  try {
    return JSON.parse(body) as T;
  } catch (cause) {
    throw new HobError("bad_answer", `${method} ${path}: the answer is not JSON`, {
      hint: `is ${endpoint.url.origin} a Hob daemon?`,
      cause,
    });
  }
}

export function authorization(endpoint: Endpoint): Record<string, string> {
  return endpoint.token === undefined ? {} : { authorization: `Bearer ${endpoint.token}` };
}

/** Path and query of a request, behind whatever path prefix the URL of the endpoint has. */
export function requestTarget(endpoint: Endpoint, path: string, query: CallOptions["query"] = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined) search.append(key, value);
  const suffix = search.size === 0 ? "" : `?${search}`;
  return `${endpoint.url.pathname.replace(/\/+$/, "")}${path}${suffix}`;
}

/** node:http or node:https, whichever the endpoint needs. */
export async function requester(endpoint: Endpoint): Promise<typeof import("node:http").request> {
  const { request } = endpoint.url.protocol === "https:" ? await import("node:https") : await import("node:http");
  return request;
}

/** Where a request goes. A connection per request: nothing lingers that would hold a process open. */
export const addressOf = (endpoint: Endpoint): RequestOptions => ({
  protocol: endpoint.url.protocol,
  hostname: endpoint.url.hostname.replace(/^\[|\]$/g, ""),
  port: endpoint.url.port,
  agent: false,
});

async function exchange(endpoint: Endpoint, method: Method, path: string, options: CallOptions, what: string): Promise<Answer> {
  const request = await requester(endpoint);
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const requestOptions: RequestOptions = {
    ...addressOf(endpoint),
    method,
    path: requestTarget(endpoint, path, options.query),
    signal: options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]),
    headers: {
      accept: "application/json",
      ...authorization(endpoint),
      ...(body === undefined ? {} : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) }),
      ...options.headers,
    },
  };
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const outgoing = request(requestOptions, (incoming) => void readAnswer(incoming).then(resolve, reject));
      refuseUnaskedUpgrade(outgoing);
      outgoing.once("error", reject);
      outgoing.end(body);
    });
  } catch (thrown) {
    if (options.signal?.aborted) throw options.signal.reason;
    if (deadline.aborted) throw timeoutError(what, options.timeoutMs, thrown);
    throw connectionError(what, endpoint.url.origin, thrown);
  }
}

async function readAnswer(incoming: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming) {
    bytes += (chunk as Buffer).length;
    if (bytes > ANSWER_BYTES_MAX) throw new HobError("bad_answer", `read the answer: more than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk as Buffer);
  }
  return { status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") };
}

function timeoutError(what: string, timeoutMs: number, cause: unknown): HobError {
  return new HobError("timeout", `${what}: no answer within ${timeoutMs / 1000} s`, {
    hint: "the daemon's log says what it is doing",
    cause,
  });
}
