import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol/errors.ts";
import { connectionError, errorFromAnswer } from "./errors.ts";
import { authorization, type CallOptions, type Endpoint, type Method, requestTarget } from "./http.ts";
import { parseLine } from "./json-line.ts";
import { refuseUnaskedUpgrade } from "./unasked-upgrade.ts";

/** One line; a server that sends more without a line break is not ours. */
const LINE_CHARACTERS_MAX = 1024 * 1024;
const ERROR_BYTES_MAX = 1024 * 1024;

/**
 * One HTTP exchange whose answer is a JSON object per line, given as they arrive.
 * @param options `timeoutMs` bounds the whole exchange
 * @throws HobError what the server said, or `cannot_connect` | `connection_lost` | `timeout` | `bad_answer`
 */
export async function* callLines<T>(
  endpoint: Endpoint,
  method: Method,
  path: string,
  options: CallOptions,
): AsyncGenerator<T, void, undefined> {
  const what = `${method} ${path}`;
  const deadline = AbortSignal.timeout(options.timeoutMs);
  try {
    const incoming = await open(endpoint, method, path, options, deadline);
    const status = incoming.statusCode ?? 0;
    if (status < 200 || status > 299) throw errorFromAnswer(what, status, await readError(incoming));
    yield* linesOf<T>(incoming, what);
  } catch (thrown) {
    if (options.signal?.aborted) throw options.signal.reason;
    if (deadline.aborted) throw new HobError("timeout", `${what}: not complete within ${options.timeoutMs / 1000} s`, { cause: thrown });
    throw connectionError(what, endpoint.url.origin, thrown);
  }
}

async function open(
  endpoint: Endpoint,
  method: Method,
  path: string,
  options: CallOptions,
  deadline: AbortSignal,
): Promise<IncomingMessage> {
  const { request } = endpoint.url.protocol === "https:" ? await import("node:https") : await import("node:http");
  const body = options.body === undefined ? "" : JSON.stringify(options.body);
  return new Promise((resolve, reject) => {
    const outgoing = request({
      method,
      protocol: endpoint.url.protocol,
      hostname: endpoint.url.hostname.replace(/^\[|\]$/g, ""),
      port: endpoint.url.port,
      path: requestTarget(endpoint, path, options.query),
      agent: false,
      signal: options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]),
      headers: {
        accept: "application/x-ndjson",
        ...authorization(endpoint),
        ...(body === "" ? {} : { "content-type": "application/json" }),
        "content-length": String(Buffer.byteLength(body)),
      },
    });
    refuseUnaskedUpgrade(outgoing);
    outgoing.once("response", resolve).once("error", reject).end(body);
  });
}

async function* linesOf<T>(incoming: IncomingMessage, what: string): AsyncGenerator<T, void, undefined> {
  incoming.setEncoding("utf8");
  let rest = "";
  for await (const chunk of incoming) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARACTERS_MAX) throw new HobError("bad_answer", `${what}: a line without an end`);
    for (const line of lines) if (line.trim() !== "") yield parseLine<T>(line, what);
  }
  if (rest.trim() !== "") yield parseLine<T>(rest, what);
}

async function readError(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming) {
    bytes += (chunk as Buffer).length;
    if (bytes > ERROR_BYTES_MAX) break;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
