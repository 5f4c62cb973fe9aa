import { type IncomingHttpHeaders, type IncomingMessage, request as requestPlain } from "node:http";
import { Agent, globalAgent, request as requestTls } from "node:https";
import { HobError } from "@hob/protocol";

export interface HttpRequest {
  method: string;
  headers: Readonly<Record<string, string>>;
  body?: Uint8Array | undefined;
  /** bytes of a good answer that are taken into memory */
  maxBytes: number;
  signal: AbortSignal;
  /** for https; without one the process's own */
  agent?: Agent | undefined;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** Error answers are short. */
const MAX_ERROR_BYTES = 64 * 1024;

/** Connections that trust these authorities and no others, and are kept as long as the process's own. */
export const agentTrusting = (ca: string): Agent => new Agent({ ...globalAgent.options, ca });

/** One request and its whole answer; redirects are answers. @throws HobError `payload_too_large`, and what the connection gives */
export async function exchange(url: URL, { maxBytes, ...request }: HttpRequest): Promise<HttpAnswer> {
  const answer = await send(url, request);
  const status = answer.statusCode ?? 0;
  return { status, headers: answer.headers, body: await readBody(answer, status < 300 ? maxBytes : MAX_ERROR_BYTES) };
}

function send(url: URL, { method, headers, body, signal, agent }: Omit<HttpRequest, "maxBytes">): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = { method, signal, headers: body === undefined ? headers : { ...headers, "content-length": String(body.length) } };
    const outgoing =
      url.protocol === "https:" ? requestTls(url, { ...options, ...(agent === undefined ? {} : { agent }) }) : requestPlain(url, options);
    outgoing.once("response", resolve);
    // Without a listener Node.js closes the connection and tells nobody.
    outgoing.once("upgrade", (_answer, socket) => {
      socket.destroy();
      reject(new Error("it changed the protocol unasked"));
    });
    // Stays: what goes wrong after the answer has begun shows on the answer as well.
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** An answer that ends before its length is an error of the stream. */
async function readBody(answer: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    sizeBytes += part.length;
    if (sizeBytes > maxBytes) throw new HobError("payload_too_large", `the object store answered with more than ${maxBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}
