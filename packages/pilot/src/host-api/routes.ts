import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import {
  HOB_VERSION,
  HobError,
  PILOT_PROTOCOL_VERSION,
  PILOT_ROUTES,
  type ReadyResponse,
  resumedRequest,
  SPRITE_VERSION,
  toHobError,
} from "@hob/protocol";
import { Hono } from "hono";
import type { Logger } from "pino";
import type { InnerContainer } from "../container/container.ts";
import type { Firewall } from "../network/firewall.ts";
import type { Sprite } from "../sprite.ts";

export interface HostApiParts {
  sprite: Sprite;
  container: InnerContainer;
  firewall: Firewall;
  log: Logger;
  /** resolves to the uptime of the kernel, milliseconds */
  uptimeMs: () => Promise<number>;
  /** flushes everything to the volume's disk */
  sync: () => Promise<void>;
  /** stops the platform and powers off; does not return */
  shutDown: () => void;
}

/** Routes that hobd itself calls; `protocol/src/pilot.ts` lists them. */
export function hostApi(parts: HostApiParts): Hono {
  const { sprite, container } = parts;
  const app = new Hono();
  app.get(PILOT_ROUTES.ready, async (c) => {
    const answer: ReadyResponse = {
      protocol: PILOT_PROTOCOL_VERSION,
      version: HOB_VERSION,
      uptimeMs: await parts.uptimeMs(),
      pilotPid: process.pid,
      bounces: container.bounces,
      spriteId: sprite.identity?.id ?? "",
    };
    return c.json(answer, container.state() === "running" ? 200 : 503);
  });
  app.post(PILOT_ROUTES.resumed, async (c) => {
    const parsed = resumedRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `resumed: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    const { hostAddresses } = parsed.data;
    await Promise.all([sprite.resumed(parsed.data), hostAddresses === undefined ? undefined : parts.firewall.closeHost(hostAddresses)]);
    return c.body(null, 204);
  });
  app.post(PILOT_ROUTES.prepareSave, async (c) => {
    await parts.sync();
    return c.body(null, 204);
  });
  const bounce = async () => {
    const start = performance.now();
    const steps = await container.bounce();
    return { totalMs: Math.round(performance.now() - start), steps, uptimeMs: await parts.uptimeMs(), pilotPid: process.pid };
  };
  app.post(PILOT_ROUTES.bounce, async (c) => c.json(await bounce()));
  app.post("/v1/sprites/:name/bounce", async (c) => c.json(await bounce()));
  app.post(PILOT_ROUTES.shutdown, (c) => {
    setImmediate(parts.shutDown);
    return c.body(null, 202);
  });
  return app;
}

/** Answers of every route of this pilot carry the version; errors have the shape that the SDKs parse. */
export function addErrorHandling(app: Hono, log: Logger): void {
  app.use(async (c, next) => {
    await next();
    c.header("Sprite-Version", SPRITE_VERSION);
  });
  app.notFound((c) => c.json(new HobError("not_found", `no such route: ${c.req.method} ${c.req.path}`).toBody(), 404));
  app.onError((thrown, c) => {
    const error = toHobError(thrown);
    if (error.status >= 500) log.error({ err: error.cause ?? error, path: c.req.path }, error.message);
    return c.json(error.toBody(), error.status as 500, { "Sprite-Version": SPRITE_VERSION });
  });
}

/** Whether a request carries the token that only hobd and this pilot know. */
export function isFromHost(request: IncomingMessage, token: string): boolean {
  const given = Buffer.from(request.headers.authorization ?? "");
  const expected = Buffer.from(`Bearer ${token}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
}
