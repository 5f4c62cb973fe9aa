import {
  createSpriteRequest,
  HOB_VERSION,
  HobError,
  LIMITS,
  toHobError,
  type UpdateSpriteRequest,
  updateSpriteRequest,
} from "@hob/protocol";
import { Hono } from "hono";
import type { Sleeper } from "../activity/sleeper.ts";
import type { PilotRequester } from "../front-door/pilot-locator.ts";
import type { SignIn } from "../ingress/sign-in.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import type { StoreHealth } from "../object-store/watched-store.ts";
import type { SpriteSettingsPatch, TokenRegistry } from "../registry/registry.ts";
import type { Authenticator } from "../tokens/authenticator.ts";
import { checkSprite } from "./check-sprite.ts";
import type { SpriteCreator } from "./create-sprite.ts";
import type { SpriteDestroyer } from "./destroy-sprite.ts";
import { addDocuments } from "./document-routes.ts";
import { errorHeaders, logError } from "./error-answer.ts";
import { addHistory } from "./history-routes.ts";
import { readJsonBody } from "./json-body.ts";
import { addLifecycle } from "./lifecycle-routes.ts";
import { checkIdempotencyKey, listSprites, parseListQuery } from "./list-sprites.ts";
import { addPolicies } from "./policy-routes.ts";
import { presentSprite } from "./present.ts";
import { clientGone, type Env, methodNotAllowed } from "./routes.ts";
import { requireSprite, type SpriteContext, spriteNotFound } from "./sprite-context.ts";
import { answerWithStream } from "./stream-answer.ts";
import { addTokens } from "./token-routes.ts";
import { addUrlTicket } from "./url-ticket.ts";
import { watchSprites } from "./watch-sprites.ts";

export interface ApiParts {
  context: SpriteContext;
  creator: SpriteCreator;
  destroyer: SpriteDestroyer;
  sleeper: Sleeper;
  tokens: TokenRegistry;
  authenticator: Authenticator;
  pilot: PilotRequester;
  signIn: SignIn;
  storage: SpriteStorage;
  storeHealth: () => StoreHealth;
  /** aborted when the daemon stops: ends streams that have no end of their own */
  stopping: AbortSignal;
}

/** The part of the public API that the host answers itself: the registry of sprites. Everything else is a sprite's own. */
export function createApi(parts: ApiParts): Hono<Env> {
  const { authenticator, context } = parts;
  const app = new Hono<Env>();
  app.onError((error, c) => {
    const hobError = toHobError(error);
    logError(context.log, hobError, { method: c.req.method, path: c.req.path });
    return c.json(hobError.toBody(), hobError.status as 500, errorHeaders(hobError));
  });
  app.notFound((c) => {
    const error = new HobError("not_found", `${c.req.method} ${c.req.path.slice(0, 200)}: no such route`);
    return c.json(error.toBody(), 404);
  });
  app.get("/healthz", (c) => c.json({ ok: true, version: HOB_VERSION, store: parts.storeHealth() }));
  app.all("/healthz", methodNotAllowed("GET, HEAD"));
  addDocuments(app);
  addTokens(app, parts);
  app.use("/v1/*", async (c, next) => {
    const { tokenId } = await authenticator.authenticate(c.req.header("authorization"));
    c.set("tokenId", tokenId);
    await next();
  });
  addCollection(app, parts);
  addSprite(app, parts);
  addLifecycle(app, parts);
  addHistory(app, parts);
  addPolicies(app, context);
  addUrlTicket(app, parts);
  app.all("/v1/sprites/:name/url/ticket", methodNotAllowed("POST"));
  return app;
}

function addCollection(app: Hono<Env>, { context, creator, stopping }: ApiParts): void {
  app.get("/v1/sprites", async (c) => {
    const query = parseListQuery(c.req.query());
    if (!/\bapplication\/x-ndjson\b/i.test(c.req.header("accept") ?? "")) return c.json(await listSprites(context, query));
    const watch = (gone: AbortSignal) => watchSprites(context, query, AbortSignal.any([stopping, gone]));
    return answerWithStream(c, watch, { contentType: "application/x-ndjson", waitsForFirst: false, log: context.log });
  });
  app.post("/v1/sprites", async (c) => {
    const idempotencyKey = checkIdempotencyKey(c.req.header("idempotency-key"), LIMITS.idempotencyKeyBytes);
    const request = await readJsonBody(c.env.incoming, createSpriteRequest, "create sprite");
    const record = await creator.create(request, { idempotencyKey, signal: clientGone(c), tokenId: c.get("tokenId") });
    return c.json(presentSprite(record, context.runtime.status(record.id), context.urlOf), 201);
  });
  app.all("/v1/sprites", methodNotAllowed("GET, HEAD, POST"));
}

function addSprite(app: Hono<Env>, { context, destroyer, sleeper, pilot }: ApiParts): void {
  const { sprites, runtime, urlOf } = context;
  app.get("/v1/sprites/:name", async (c) => {
    const record = await requireSprite(sprites, c.req.param("name"));
    return c.json(presentSprite(record, runtime.status(record.id), urlOf));
  });
  app.put("/v1/sprites/:name", async (c) => {
    const name = c.req.param("name");
    await requireSprite(sprites, name);
    const request = await readJsonBody(c.env.incoming, updateSpriteRequest, "update sprite");
    const at = context.now();
    const record = await sprites.updateSettings(name, settingsPatch(request), at);
    if (record === undefined) throw spriteNotFound(name);
    sleeper.lookSoon(record.id);
    const status = runtime.status(record.id);
    context.events.emit({ type: "updated", id: record.id, name, status, at });
    return c.json(presentSprite(record, status, urlOf));
  });
  app.delete("/v1/sprites/:name", async (c) => {
    await destroyer.destroy(c.req.param("name"));
    return c.body(null, 204);
  });
  app.all("/v1/sprites/:name", methodNotAllowed("GET, HEAD, PUT, DELETE"));
  app.get("/v1/sprites/:name/check", async (c) =>
    c.json(await checkSprite(context, pilot, await requireSprite(sprites, c.req.param("name")))),
  );
  app.all("/v1/sprites/:name/check", methodNotAllowed("GET, HEAD"));
}

/** `labels` replaces the whole set; `clear_labels` empties it first. */
function settingsPatch({ labels, clear_labels, url_settings, idle_timeout_seconds }: UpdateSpriteRequest): SpriteSettingsPatch {
  const nextLabels = labels ?? (clear_labels === true ? [] : undefined);
  const { auth, private_access } = url_settings ?? {};
  return {
    ...(nextLabels === undefined ? {} : { labels: nextLabels }),
    ...(idle_timeout_seconds === undefined ? {} : { idleTimeoutSeconds: idle_timeout_seconds }),
    urlSettings: { ...(auth === undefined ? {} : { auth }), ...(private_access === undefined ? {} : { private_access }) },
  };
}
