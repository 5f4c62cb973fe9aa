import type { ClientRequest, IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { addressOf, authorization, type CallOptions, type Endpoint, type Method, requester, requestTarget } from "./http.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

const REFUSAL_BYTES_MAX = 64 * 1024;

export interface ByteStreamOptions {
  query?: CallOptions["query"];
  body?: Readable | Uint8Array | undefined;
  /** longest time in which nothing comes or goes */
  silenceMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * One exchange whose bodies are bytes of any length. An answer that is cut off ends with an error.
 * @throws HobError what the server said, or `cannot_connect` | `connection_lost`
 */
export async function exchangeBytes(
  endpoint: Endpoint,
  method: Method,
  path: string,
  options: ByteStreamOptions,
): Promise<IncomingMessage> {
  const { body, silenceMs, signal } = options;
  const request = await requester(endpoint);
  const what = `${method} ${path}`;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = request({
      ...addressOf(endpoint),
      method,
      path: requestTarget(endpoint, path, options.query),
      headers: {
        ...authorization(endpoint),
        // Though the connection is not kept: a server that answers before it has the whole body would else close it at once, and the
        // reset that follows would overtake its answer.
        ...(body === undefined ? {} : { connection: "keep-alive" }),
        ...(body instanceof Uint8Array ? { "content-length": body.length } : {}),
      },
      ...(signal === undefined ? {} : { signal }),
    });
    const fail = (error: Error) => reject(signal?.aborted ? signal.reason : connectionError(what, endpoint.url.origin, error));
    outgoing.setTimeout(silenceMs, () => outgoing.destroy(new Error(`silence of ${silenceMs / 1000} s`)));
    refuseUnaskedUpgrade(outgoing);
    outgoing.once("response", resolve).on("error", fail);
    send(outgoing, body, reject);
  });
  const status = answer.statusCode ?? 0;
  if (status < 200 || status > 299) throw errorFromAnswer(what, status, await textOf(answer));
  return answer;
}

function send(outgoing: ClientRequest, body: Readable | Uint8Array | undefined, fail: (error: Error) => void): void {
  if (body === undefined || body instanceof Uint8Array) return void outgoing.end(body);
  body.once("error", (error) => {
    fail(error);
    outgoing.destroy();
  });
  outgoing.once("close", () => body.destroy());
  outgoing.once("response", (answer) => {
    if (outgoing.writableEnded) return;
    // It has been answered without the rest, which may have no end.
    body.unpipe(outgoing);
    answer.once("close", () => outgoing.destroy());
  });
  body.pipe(outgoing);
}

/** The text of a short answer. */
export async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    bytes += (chunk as Buffer).length;
    if (bytes > REFUSAL_BYTES_MAX) break;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** @throws HobError `bad_answer` */
export function parseAnswer<T>(text: string, what: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new HobError("bad_answer", `${what}: the answer is not JSON`, { cause });
  }
}
