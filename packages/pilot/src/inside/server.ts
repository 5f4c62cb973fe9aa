import { chmod, chown, mkdir, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { dirname } from "node:path";
import { SPRITE_VERSION } from "@hob/protocol";
import { Hono } from "hono";
import type { Logger } from "pino";
import type { Endpoint } from "../api/endpoint.ts";
import { endBodyOfHead } from "../api/head-requests.ts";
import { requestListener } from "../api/listener.ts";
import { withErrorAnswers } from "../api/server.ts";
import { ID_MAP, SPRITE_USER } from "../container/ids.ts";

/** Bounds on what programs in the sprite can take from the pilot. */
export interface InsideLimits {
  readonly connections: number;
  readonly headerBytes: number;
  /** for the head of a request, milliseconds */
  readonly headersTimeoutMs: number;
  /** for a whole request, its answer not counted */
  readonly requestTimeoutMs: number;
  readonly idleConnectionMs: number;
  /** how often the three before are looked at */
  readonly checkIntervalMs: number;
}

export const INSIDE_LIMITS: InsideLimits = {
  connections: 64,
  headerBytes: 16 * 1024,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 40_000,
  idleConnectionMs: 5_000,
  checkIntervalMs: 2_000,
};

/**
 * The server behind `/.sprite/api.sock`. Whoever may open the socket is let in: it belongs to the sprite's user, and
 * the sprite's root may open everything inside. It serves the routes of the families that are meant for the inside and
 * nothing else: none of the host's, no upgrades.
 */
export function createInsideServer(endpoints: readonly Endpoint[], log: Logger, limits: InsideLimits = INSIDE_LIMITS): Server {
  const app = new Hono();
  app.use(endBodyOfHead);
  app.use(async (c, next) => {
    await next();
    c.header("Sprite-Version", SPRITE_VERSION);
  });
  for (const { inside } of endpoints) if (inside !== undefined) app.route("/v1", inside);
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.idleConnectionMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
    },
    requestListener(withErrorAnswers(app, log)),
  );
  server.maxConnections = limits.connections;
  return server;
}

/** Makes the socket where the container's mount of it begins. Nobody but the sprite's user, and its root, may open it. */
export async function listenInside(server: Server, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  // A socket of a pilot before this one would be in the way. unix(7)
  await rm(path, { force: true });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  const owner = ID_MAP.firstId + SPRITE_USER.uid;
  await chown(path, owner, ID_MAP.firstId + SPRITE_USER.gid);
  await chmod(path, 0o660);
}
