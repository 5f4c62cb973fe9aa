import type { ServerResponse } from "node:http";
import type { HobError } from "@hob/protocol";
import type { Logger } from "pino";
import { isOfClientGone } from "./client-gone.ts";

/** Headers that belong to an error: when to try again, and an end of the connection whose request was not read to its end. */
export function errorHeaders(error: HobError): Record<string, string> {
  const retryAfter = error.details.retry_after_seconds ?? (error.code === "shutting_down" ? 1 : undefined);
  return {
    ...rateHeaders(error),
    ...(retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) }),
    ...(error.code === "payload_too_large" || error.code === "timeout" ? { Connection: "close" } : {}),
    ...(error.code === "unauthorized" ? { "WWW-Authenticate": "Bearer" } : {}),
  };
}

/** What a limit of a rate looks like: the SDKs read these three. */
function rateHeaders({ code, details }: HobError): Record<string, string> {
  if (code !== "sprite_creation_rate_limited" && code !== "concurrent_sprite_limit_exceeded") return {};
  const resetAt = Math.ceil(Date.now() / 1_000) + Number(details.retry_after_seconds ?? 0);
  return { "X-RateLimit-Limit": String(details.limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": String(resetAt) };
}

/** Answers a request that Hono does not handle. Nothing happens when the client has gone or the answer has begun. */
export function sendError(response: ServerResponse, error: HobError): void {
  if (response.headersSent || response.destroyed) return;
  const body = JSON.stringify(error.toBody());
  response.writeHead(error.status, {
    ...errorHeaders(error),
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(body);
}

/** Faults of Hob are logged with their cause; what a client did wrong, and that it left, only when debugging. Never with a query string. */
export function logError(log: Logger, error: HobError, request: { method: string | undefined; path: string }): void {
  const fields = { ...request, code: error.code, err: error };
  if (isOfClientGone(error)) log.debug(request, "the client has gone before its answer");
  else if (error.status >= 500 && error.code !== "shutting_down") log.error(fields, "request failed");
  else log.debug({ ...request, code: error.code, message: error.message }, "request refused");
}
