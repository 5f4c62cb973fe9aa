import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Hono } from "hono";

/**
 * One family of routes of the public API: sessions, files, services, … A family is one folder, which knows nothing of
 * tokens, versions and the sprite's name; `server.ts` puts all of them behind the port, `context.ts` makes them.
 */
export interface Endpoint {
  /** plain requests, relative to the sprite: `/files/read` for `/v1/sprites/NAME/files/read` */
  readonly routes?: Hono;
  /** what programs in the sprite may ask for on `/.sprite/api.sock`, below `/v1`: often the same as `routes` */
  readonly inside?: Hono;
  /** Takes a request that must not pass through Hono, such as one whose chunks have a meaning. @returns false if it is for another */
  handle?(request: IncomingMessage, response: ServerResponse): boolean;
  /** Takes an upgrade; from then on the socket is its own, and errors too. @returns false if it is for another route */
  upgrade?(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
}

/** A target taken apart: what follows the sprite's name, beginning with "/", and the query; undefined outside of a sprite. */
export function relativeTarget({ url = "" }: IncomingMessage): { path: string; query: URLSearchParams } | undefined {
  const at = url.indexOf("?");
  const path = /^\/v1\/sprites\/[^/]+(\/.+)$/.exec(at < 0 ? url : url.slice(0, at))?.[1];
  return path === undefined ? undefined : { path, query: new URLSearchParams(at < 0 ? "" : url.slice(at + 1)) };
}
