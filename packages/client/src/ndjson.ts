import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { textOf } from "./byte-stream.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import type { Endpoint, Method } from "./http.ts";
import { parseLine } from "./json-line.ts";
import { openStream } from "./stream.ts";

/** With `timeoutMs` the whole exchange is bounded; with `answerTimeoutMs` the wait for the answer, and what follows may take any time. */
export type LinesOptions = {
  /** JSON request body */
  body?: unknown;
  query?: Readonly<Record<string, string | undefined>>;
  signal?: AbortSignal | undefined;
} & ({ timeoutMs: number; answerTimeoutMs?: never } | { answerTimeoutMs: number; timeoutMs?: never });

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
  { body, query, signal, timeoutMs, answerTimeoutMs }: LinesOptions,
): AsyncGenerator<T, void, undefined> {
  const what = `${method} ${path}`;
  const deadline = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  let answer: IncomingMessage | undefined;
  try {
    answer = await openStream(endpoint, method, path, {
      ...(query === undefined ? {} : { query }),
      headers: { accept: "application/x-ndjson", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.any([deadline, signal].filter((one) => one !== undefined)),
      answerTimeoutMs: answerTimeoutMs ?? timeoutMs,
    });
    const status = answer.statusCode ?? 0;
    if (status < 200 || status > 299) throw errorFromAnswer(what, status, await textOf(answer));
    for await (const line of linesOf(answer, what)) yield parseLine<T>(line, what);
  } catch (thrown) {
    if (signal?.aborted) throw signal.reason;
    if (deadline?.aborted) throw new HobError("timeout", `${what}: not complete within ${(timeoutMs ?? 0) / 1000} s`, { cause: thrown });
    throw connectionError(what, endpoint.url.origin, thrown);
  } finally {
    answer?.destroy();
  }
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
