import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { authorization, type Endpoint, requestTarget } from "./http.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

/** Longest line of a stream; a server that sends a longer one is not ours. */
const LINE_CHARACTERS_MAX = 1024 * 1024;

export interface LinesOptions {
  query?: Readonly<Record<string, string | undefined>>;
  /** ends the stream without an error */
  signal?: AbortSignal | undefined;
}

/**
 * The lines of an answer as they arrive, empty ones left out; it may go on for ever.
 * @throws HobError what the server said, or `cannot_connect` | `connection_lost`
 */
export async function* getLines(
  endpoint: Endpoint,
  path: string,
  { query, signal }: LinesOptions = {},
): AsyncGenerator<string, void, undefined> {
  const what = `GET ${path}`;
  try {
    const answer = await open(endpoint, requestTarget(endpoint, path, query), signal);
    if (answer.statusCode !== 200) throw errorFromAnswer(what, answer.statusCode ?? 0, await textOf(answer));
    yield* splitLines(answer);
  } catch (error) {
    if (signal?.aborted) return;
    if (error instanceof HobError) throw error;
    throw connectionError(what, endpoint.url.origin, error);
  }
}

async function open(endpoint: Endpoint, path: string, signal: AbortSignal | undefined): Promise<IncomingMessage> {
  const { protocol, hostname, port } = endpoint.url;
  const { request } = protocol === "https:" ? await import("node:https") : await import("node:http");
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        protocol,
        hostname: hostname.replace(/^\[|\]$/g, ""),
        port,
        path,
        agent: false,
        ...(signal === undefined ? {} : { signal }),
        headers: { accept: "application/x-ndjson", ...authorization(endpoint) },
      },
      resolve,
    );
    refuseUnaskedUpgrade(outgoing);
    outgoing.once("error", reject);
    outgoing.end();
  });
}

async function* splitLines(answer: AsyncIterable<Buffer>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of answer) {
    const parts = `${rest}${decoder.decode(chunk, { stream: true })}`.split("\n");
    rest = parts.pop() ?? "";
    if (rest.length > LINE_CHARACTERS_MAX)
      throw new HobError("bad_answer", `read the answer: a line of more than ${LINE_CHARACTERS_MAX} characters`);
    for (const line of parts) if (line !== "") yield line;
  }
  if (rest !== "") yield rest;
}

async function textOf(answer: AsyncIterable<Buffer>): Promise<string> {
  let text = "";
  for await (const line of splitLines(answer)) text += `${line}\n`;
  return text;
}
