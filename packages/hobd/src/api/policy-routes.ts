import { HobError, networkPolicy, privilegesPolicy, resourcesPolicy } from "@hob/protocol";
import type { Context, Hono } from "hono";
import type { z } from "zod";
import type { SpritePoliciesPatch } from "../registry/registry.ts";
import { readJsonBody } from "./json-body.ts";
import { identityOf } from "./present.ts";
import { type Env, methodNotAllowed } from "./routes.ts";
import { requireSprite, type SpriteContext, spriteNotFound } from "./sprite-context.ts";

/** What the errors of a policy that is not valid begin with. */
const INVALID = "invalid policy";

/**
 * `/policy/network`, `/policy/privileges`, `/policy/resources`. The host keeps the policies, so that nothing in a sprite,
 * and no restore of an older state of it, can loosen them; it tells a running sprite at once, and a sleeping one, which
 * is not woken for it, when it wakes.
 */
export function addPolicies(app: Hono<Env>, context: SpriteContext): void {
  const route = (kind: string) => `/v1/sprites/:name/policy/${kind}`;
  const read = (pick: (name: string) => Promise<object>) => async (c: Context<Env, string>) =>
    c.json(await pick(c.req.param("name") ?? ""));
  const policiesOf = async (name: string) => (await requireSprite(context.sprites, name)).policies;
  const replace =
    <T>(schema: z.ZodType<T>, patch: (policy: T) => SpritePoliciesPatch) =>
    async (c: Context<Env, string>) => {
      const name = c.req.param("name") ?? "";
      await requireSprite(context.sprites, name);
      await change(context, name, patch(await readJsonBody(c.env.incoming, schema, INVALID)));
      return c.body(null, 204);
    };
  const lift = (patch: SpritePoliciesPatch) => async (c: Context<Env, string>) => {
    await change(context, c.req.param("name") ?? "", patch);
    return c.body(null, 204);
  };
  app.get(
    route("network"),
    read(async (name) => (await policiesOf(name)).network),
  );
  app.post(
    route("network"),
    replace(networkPolicy, (network) => ({ network })),
  );
  app.get(
    route("privileges"),
    read(async (name) => (await policiesOf(name)).privileges),
  );
  app.post(
    route("privileges"),
    replace(privilegesPolicy, (privileges) => ({ privileges })),
  );
  app.delete(route("privileges"), lift({ privileges: {} }));
  app.get(
    route("resources"),
    read(async (name) => (await policiesOf(name)).resources),
  );
  app.post(
    route("resources"),
    replace(resourcesPolicy, (resources) => ({ resources })),
  );
  app.delete(route("resources"), lift({ resources: {} }));
  app.all(route("network"), methodNotAllowed("GET, HEAD, POST"));
  for (const kind of ["privileges", "resources"]) app.all(route(kind), methodNotAllowed("GET, HEAD, POST, DELETE"));
}

/** Stored first: a policy that was answered with anything but 400 is the one that the sprite has from its next wake at the latest. */
async function change(context: SpriteContext, name: string, patch: SpritePoliciesPatch): Promise<void> {
  const { sprites, runtime, urlOf, events, log } = context;
  const at = context.now();
  const record = await sprites.updatePolicies(name, patch, at);
  if (record === undefined) throw spriteNotFound(name);
  events.emit({ type: "updated", id: record.id, name, status: runtime.status(record.id), at });
  log.info({ sprite: record.id, name, changed: Object.keys(patch), revision: record.policies.revision }, "policies changed");
  try {
    await runtime.applyPolicies(identityOf(record, urlOf));
  } catch (cause) {
    throw new HobError("pilot_unreachable", `set policy of sprite ${name}: it is stored, but the running sprite did not take it`, {
      hint: "send it again; a network policy that is only half in force lets nothing through",
      cause,
    });
  }
}
