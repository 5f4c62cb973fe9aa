import { type SleepAnswer, type SpriteRestarted, sleepRequest } from "@hob/protocol";
import type { Hono } from "hono";
import type { Sleeper } from "../activity/sleeper.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import { readJsonBody } from "./json-body.ts";
import { identityOf } from "./present.ts";
import { type Env, methodNotAllowed } from "./routes.ts";
import { requireSprite, type SpriteContext } from "./sprite-context.ts";

export interface LifecycleParts {
  context: SpriteContext;
  sleeper: Sleeper;
}

/** What starts and stops a sprite's VM, and says why it runs. */
export function addLifecycle(app: Hono<Env>, { context, sleeper }: LifecycleParts): void {
  const { sprites } = context;
  app.get("/v1/sprites/:name/activity", async (c) => c.json(await sleeper.explain(await requireSprite(sprites, c.req.param("name")))));
  app.all("/v1/sprites/:name/activity", methodNotAllowed("GET, HEAD"));
  app.post("/v1/sprites/:name/sleep", async (c) => {
    const record = await requireSprite(sprites, c.req.param("name"));
    const { force = false } = await readJsonBody(c.env.incoming, sleepRequest, "put sprite to sleep");
    const answer: SleepAnswer = { sprite_name: record.name, status: await sleeper.sleepNow(record, force) };
    return c.json(answer);
  });
  app.all("/v1/sprites/:name/sleep", methodNotAllowed("POST"));
  app.post("/v1/sprites/:name/restart", async (c) => {
    const record = await requireSprite(sprites, c.req.param("name"));
    const startedAt = performance.now();
    const restart = () => context.runtime.restart(identityOf(record, context.urlOf), record.machine);
    await held(context, record, { label: "restart", place: true }, restart);
    const answer: SpriteRestarted = {
      sprite_name: record.name,
      machine_id: record.id,
      message: `restarted in ${((performance.now() - startedAt) / 1_000).toFixed(1)} s`,
    };
    return c.json(answer);
  });
  app.all("/v1/sprites/:name/restart", methodNotAllowed("POST"));
  app.post("/v1/sprites/:name/upgrade", async (c) => {
    const record = await requireSprite(sprites, c.req.param("name"));
    const upgrade = () => context.runtime.upgrade(identityOf(record, context.urlOf), record.machine);
    const place = context.runtime.status(record.id) === "running";
    const upgraded = await held(context, record, { label: "upgrade", place }, upgrade);
    if (upgraded) context.log.info({ sprite: record.id, name: record.name }, "sprite upgraded to the present images");
    return c.body(null, 204);
  });
  app.all("/v1/sprites/:name/upgrade", methodNotAllowed("POST"));
}

interface Hold {
  label: string;
  /** whether the sprite has to have a place among the running ones */
  place: boolean;
}

/** The sprite keeps its place while its VM is away for a moment, or gets one; and nobody puts it to sleep meanwhile. */
async function held<T>({ gate, uses }: SpriteContext, { id }: SpriteRecord, { label, place }: Hold, work: () => Promise<T>): Promise<T> {
  using _use = uses.begin(id, { kind: "request", label, holds: true });
  using _place = place ? await gate.reserve(id) : undefined;
  return await work();
}
