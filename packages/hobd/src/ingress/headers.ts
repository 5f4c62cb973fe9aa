import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import { framing, HOP_BY_HOP, withoutHeaders } from "../front-door/headers.ts";
import { looksLikeToken } from "../tokens/token-format.ts";
import { foreignCookies } from "./cookies.ts";

/** Set here, or not for the application. */
const REPLACED: ReadonlySet<string> = new Set([
  ...HOP_BY_HOP,
  "host",
  "content-length",
  "expect",
  "cookie",
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
]);

export const isSecure = ({ socket }: IncomingMessage): boolean => (socket as TLSSocket).encrypted === true;

export const expectsContinue = ({ headers }: IncomingMessage): boolean => /^100-continue$/i.test(headers.expect?.trim() ?? "");

/**
 * The client's headers for the application, names and order kept. What belongs to Hob is taken out: its cookie, and its
 * token, also where the sprite is public and nobody asked for one.
 * @param authority host that the client asked
 */
export function applicationHeaders(request: IncomingMessage, authority: string, isUpgrade: boolean): string[] {
  const dropped = looksLikeToken(request.headers.authorization) ? new Set([...REPLACED, "authorization"]) : REPLACED;
  const cookies = request.headers.cookie === undefined ? undefined : foreignCookies(request.headers.cookie);
  return [
    "Host",
    authority,
    ...(isUpgrade ? ["Connection", "Upgrade", "Upgrade", "websocket"] : ["Connection", "keep-alive"]),
    ...framing(request),
    ...(expectsContinue(request) ? ["Expect", "100-continue"] : []),
    ...forwarded(request, authority),
    ...withoutHeaders(request, dropped),
    ...(cookies === undefined ? [] : ["Cookie", cookies]),
  ];
}

/** What a proxy on this machine says of the client is believed; what anybody else says is not. */
function forwarded(request: IncomingMessage, authority: string): string[] {
  const { headers, socket } = request;
  const peer = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  const isLocal = peer === "::1" || peer.startsWith("127.");
  const said = (name: "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto") => {
    const value = isLocal ? headers[name] : undefined;
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const before = said("x-forwarded-for");
  return [
    "X-Forwarded-For",
    before === undefined ? peer : `${before}, ${peer}`,
    "X-Forwarded-Host",
    said("x-forwarded-host") ?? authority,
    "X-Forwarded-Proto",
    said("x-forwarded-proto") ?? (isSecure(request) ? "https" : "http"),
  ];
}

/** The application's headers for the client. */
export const answerHeaders = (answer: IncomingMessage): string[] => withoutHeaders(answer, HOP_BY_HOP);
