import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { authorization, type Endpoint, type Method, requestTarget } from "./http.ts";
import { parseLine } from "./json-line.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

export interface LinesOptions {
  /** JSON request body */
  body?: unknown;
  query?: Readonly<Record<string, string | undefined>>;
  /** bound on the wait for the beginning of the answer; what follows may take any time */
  answerTimeoutMs: number;
  signal?: AbortSignal | undefined;
}

const ERROR_BYTES_MAX = 64 * 1024;
/** A server that sends longer lines is not ours. */
const LINE_CHARACTERS_MAX = 4 * 1024 * 1024;

/**
 * One exchange whose answer is a stream of JSON objects, one per line, given as they come. Leaving the loop early ends
 * the connection.
 * @throws HobError what the server said, or `cannot_connect` | `connection_lost` | `timeout` | `bad_answer`
 */
export async function* callLines<T>(
  endpoint: Endpoint,
  method: Method,
  path: string,
  options: LinesOptions,
): AsyncGenerator<T, void, undefined> {
  const what = `${method} ${path}`;
  const answer = await open(endpoint, method, path, options, what);
  try {
    const status = answer.statusCode ?? 0;
    if (status < 200 || status > 299) throw errorFromAnswer(what, status, await shortText(answer));
    for await (const line of linesOf(answer, what)) yield parseLine<T>(line, what);
  } catch (thrown) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw connectionError(what, endpoint.url.origin, thrown);
  } finally {
    answer.destroy();
  }
}

async function open(endpoint: Endpoint, method: Method, path: string, options: LinesOptions, what: string): Promise<IncomingMessage> {
  const { request } = endpoint.url.protocol === "https:" ? await import("node:https") : await import("node:http");
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const late = new HobError("timeout", `${what}: no answer within ${options.answerTimeoutMs / 1000} s`, {
    hint: "the daemon's log says what it is doing",
  });
  return new Promise((resolve, reject) => {
    const outgoing = request({
      method,
      protocol: endpoint.url.protocol,
      hostname: endpoint.url.hostname.replace(/^\[|\]$/g, ""),
      port: endpoint.url.port,
      path: requestTarget(endpoint, path, options.query),
      agent: false,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      headers: {
        accept: "application/x-ndjson",
        ...authorization(endpoint),
        ...(body === undefined ? {} : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) }),
      },
    });
    const timer = setTimeout(() => outgoing.destroy(late), options.answerTimeoutMs);
    refuseUnaskedUpgrade(outgoing);
    outgoing.once("response", (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    // Stays: an error after the answer shows on the answer itself.
    outgoing.on("error", (error) => {
      clearTimeout(timer);
      reject(options.signal?.aborted ? options.signal.reason : connectionError(what, endpoint.url.origin, error));
    });
    outgoing.end(body);
  });
}

async function* linesOf(answer: IncomingMessage, what: string): AsyncGenerator<string> {
  answer.setEncoding("utf8");
  let rest = "";
  for await (const chunk of answer) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARACTERS_MAX) throw new HobError("bad_answer", `${what}: a line of the answer is too long`);
    for (const line of lines) if (line.trim() !== "") yield line;
  }
  if (rest.trim() !== "") yield rest;
}

async function shortText(answer: IncomingMessage): Promise<string> {
  let text = "";
  answer.setEncoding("utf8");
  for await (const chunk of answer) if (text.length < ERROR_BYTES_MAX) text += chunk as string;
  return text;
}
