import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { authorization, type Endpoint, requestTarget } from "./http.ts";

/** Milliseconds until the server has begun to answer. A sleeping sprite may have to be booted for it. */
const ANSWER_TIMEOUT_MS = 180_000;
/** A line of NDJSON is an event, not a document. */
const LINE_CHARACTERS_MAX = 4 * 1024 * 1024;
const ERROR_BYTES_MAX = 64 * 1024;

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
    outgoing.once("close", () => clearTimeout(timer));
    outgoing.once("error", (error) => reject(connectionError(what, endpoint.url.origin, error)));
    outgoing.once("response", (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    outgoing.end(body);
  });
}

/**
 * The objects of an NDJSON answer as they come. Ends the request when the reader stops.
 * @throws HobError what the server said; `connection_lost` when the answer ends in the middle; `bad_answer`
 */
export async function* streamJson<T>(
  endpoint: Endpoint,
  method: string,
  path: string,
  options: StreamOptions = {},
): AsyncGenerator<T, void, undefined> {
  const headers = { accept: "application/x-ndjson", ...options.headers };
  const answer = await openStream(endpoint, method, path, { ...options, headers });
  const what = `${method} ${path}`;
  const status = answer.statusCode ?? 0;
  try {
    if (status < 200 || status > 299) throw errorFromAnswer(what, status, await errorBody(answer));
    for await (const line of linesOf(answer, what)) if (line.trim() !== "") yield parseLine<T>(line, what);
  } catch (thrown) {
    throw connectionError(what, endpoint.url.origin, thrown);
  } finally {
    answer.destroy();
  }
}

async function* linesOf(answer: IncomingMessage, what: string): AsyncGenerator<string> {
  let rest = "";
  answer.setEncoding("utf8");
  for await (const chunk of answer) {
    const lines = `${rest}${chunk}`.split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARACTERS_MAX) throw new HobError("bad_answer", `${what}: a line is too long`);
    yield* lines;
  }
  yield rest;
}

function parseLine<T>(line: string, what: string): T {
  try {
    return JSON.parse(line) as T;
  } catch (cause) {
    throw new HobError("bad_answer", `${what}: a line is not JSON`, { cause });
  }
}

async function errorBody(answer: IncomingMessage): Promise<string> {
  let text = "";
  answer.setEncoding("utf8");
  for await (const chunk of answer) {
    text += chunk;
    if (text.length > ERROR_BYTES_MAX) break;
  }
  return text;
}
