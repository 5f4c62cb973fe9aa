import type { IncomingMessage } from "node:http";
import { EXEC_FRAMES_HEADER, PREFIXED, REQUEST_ID_HEADER, STARTING_HEADER } from "@hob/protocol";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";

/** Headers of one connection only (RFC 9110 section 7.6.1), never forwarded. */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Of a request also: what the front door sets itself. `expect` was answered by the front door already. */
const REPLACED: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  "authorization",
  "host",
  "expect",
  "content-length",
  EXEC_FRAMES_HEADER,
  REQUEST_ID_HEADER,
]);

/** Of an answer also: what is between the front door and the pilot. */
const PRIVATE: ReadonlySet<string> = new Set([...HOP_BY_HOP, EXEC_FRAMES_HEADER, STARTING_HEADER]);

export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;

/** The client's headers for the pilot, names and order kept: the pilot's token and address in place of the client's. */
export function requestHeaders(request: IncomingMessage, endpoint: PilotEndpoint, extra: readonly string[] = []): string[] {
  return [
    "Host",
    `${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`,
    "Authorization",
    `Bearer ${endpoint.token}`,
    EXEC_FRAMES_HEADER,
    PREFIXED,
    ...framing(request),
    ...extra,
    ...withoutHeaders(request, REPLACED),
  ];
}

/** How the body is delimited is decided here and not copied, so that both sides agree on where the request ends. */
export function framing(request: IncomingMessage): string[] {
  const length = request.headers["content-length"];
  if (request.headers["transfer-encoding"] !== undefined) return ["Transfer-Encoding", "chunked"];
  if (length !== undefined) return ["Content-Length", length];
  return request.method === "POST" || request.method === "PUT" ? ["Content-Length", "0"] : [];
}

/** The pilot's headers for the client. */
export const responseHeaders = (response: IncomingMessage): string[] => withoutHeaders(response, PRIVATE);

/** Raw headers without the given names and without those that the message's own Connection header names. */
export function withoutHeaders(message: IncomingMessage, names: ReadonlySet<string>): string[] {
  const named = new Set((message.headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
  const kept: string[] = [];
  for (let i = 0; i + 1 < message.rawHeaders.length; i += 2) {
    const name = message.rawHeaders[i] ?? "";
    if (!names.has(name.toLowerCase()) && !named.has(name.toLowerCase())) kept.push(name, message.rawHeaders[i + 1] ?? "");
  }
  return kept;
}
