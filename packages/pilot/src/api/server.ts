import { timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { HobError, LIMITS, SPRITE_VERSION, STARTING_HEADER, toHobError } from "@hob/protocol";
import type { HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import type { Logger } from "pino";
import type { Endpoint } from "./endpoint.ts";
import { endBodyOfHead } from "./head-requests.ts";
import { requestListener } from "./listener.ts";
import { refuseRequest, refuseUpgrade } from "./refuse.ts";
import { SeenRequests } from "./seen-requests.ts";

export interface ApiServerParts {
  /** what the host itself calls, outside of `/v1/` */
  hostRoutes: Hono;
  endpoints: readonly Endpoint[];
  /** secret between the host and this pilot; it may change */
  token: () => string;
  /** Whether the sprite is up. Until then its own API says so: what it would answer is not known yet. */
  isUp?: () => boolean;
  /** where a pilot tells its successor which requests it has taken; default nowhere */
  seenFile?: string;
  log: Logger;
}

/**
 * The pilot's port: one server for the host's own calls and for the public API of this sprite. Nothing is read of a
 * request without the host's token, and a request that the host had to send twice is taken once.
 */
export function createApiServer({ hostRoutes, endpoints, token, log, seenFile, isUp = () => true }: ApiServerParts): Server {
  const listener = requestListener(createApp(hostRoutes, endpoints, log));
  const seen = new SeenRequests(seenFile);
  const take = (request: IncomingMessage, response: ServerResponse, taken = () => {}) => {
    if (!isFromHost(request, token())) return void response.writeHead(401).end();
    try {
      refuseUntil(isUp, request);
      seen.takeOnce(request);
      taken();
      if (!endpoints.some((endpoint) => endpoint.handle?.(request, response))) void listener(request, response);
    } catch (error) {
      refuseRequest(request, response, toHobError(error), headersOf(error));
    }
  };
  // Commands and environments travel in request targets of up to LIMITS.requestTargetBytes; uploads may take any time.
  const server = createServer({ requestTimeout: 0, maxHeaderSize: LIMITS.requestTargetBytes + 64 * 1024 }, take);
  // The host sends a body when it knows that the request has arrived, and so can send all of it again until then.
  server.on("checkContinue", (request, response) => take(request, response, () => response.writeContinue()));
  server.on("upgrade", (request, socket, head) => {
    // A client may reset the connection at any time; without a listener that would end the pilot.
    socket.on("error", () => socket.destroy());
    if (!isFromHost(request, token())) return refuseUpgrade(socket, new HobError("unauthorized", "upgrade: not from the host"));
    try {
      refuseUntil(isUp, request);
      seen.takeOnce(request);
      if (endpoints.some((endpoint) => endpoint.upgrade?.(request, socket, head))) return;
      throw new HobError("not_found", "upgrade: no such route");
    } catch (error) {
      refuseUpgrade(socket, toHobError(error), headersOf(error));
    }
  });
  return server;
}

/** The platform is being started: the host sends the request again. */
class Starting extends HobError {}

const headersOf = (thrown: unknown): Record<string, string> => (thrown instanceof Starting ? { [STARTING_HEADER]: "1" } : {});

/**
 * The host asks a pilot that boots nothing before it is ready. One that is started again in a running VM is asked at
 * once: a session that it has not found yet must not be said to be gone.
 * @throws HobError `container_stopped`
 */
function refuseUntil(isUp: () => boolean, { url = "" }: IncomingMessage): void {
  if (isUp() || !url.startsWith("/v1/")) return;
  throw new Starting("container_stopped", "the sprite's platform is being started", { hint: "repeat the request in a moment" });
}

/** Answers of every route carry the version; errors have the shape that the SDKs parse. */
function createApp(hostRoutes: Hono, endpoints: readonly Endpoint[], log: Logger): Hono {
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.use(endBodyOfHead);
  app.use(async (c, next) => {
    await next();
    // A route that streams by itself has sent it already.
    if (!c.env.outgoing.headersSent) c.header("Sprite-Version", SPRITE_VERSION);
  });
  app.route("/", hostRoutes);
  for (const { routes } of endpoints) if (routes !== undefined) app.route("/v1/sprites/:name", routes);
  return withErrorAnswers(app as unknown as Hono, log);
}

/** Turns what routes throw, and routes that do not exist, into answers. */
export function withErrorAnswers(app: Hono, log: Logger): Hono {
  app.notFound((c) => c.json(new HobError("not_found", `no such route: ${c.req.method} ${c.req.path}`).toBody(), 404));
  app.onError((thrown, c) => {
    const error = toHobError(thrown);
    if (error.status >= 500) log.error({ err: error.cause ?? error, path: c.req.path }, error.message);
    return c.json(error.toBody(), error.status as 500, { "Sprite-Version": SPRITE_VERSION });
  });
  return app;
}

/** Whether a request carries the token that only hobd and this pilot know. */
function isFromHost(request: IncomingMessage, token: string): boolean {
  const given = Buffer.from(request.headers.authorization ?? "");
  const expected = Buffer.from(`Bearer ${token}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
}
