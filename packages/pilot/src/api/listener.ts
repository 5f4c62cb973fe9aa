import type { IncomingMessage, ServerResponse } from "node:http";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";

/**
 * The listener of an app. Whom a request was sent to means nothing in the pilot, so every app sees the same host: with one
 * that no URL can have, such as 999.1.1.1, the library's request would break in the middle of a route, at its body.
 */
export function requestListener(app: Hono): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const listener = getRequestListener(app.fetch);
  return async (request, response) => {
    request.headers.host = "sprite";
    await listener(request, response);
  };
}
