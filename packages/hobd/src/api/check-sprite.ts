import { HobError, PILOT_ROUTES, type SpriteCheck } from "@hob/protocol";
import type { PilotRequester } from "../front-door/pilot-locator.ts";
import type { SpriteRecord } from "../registry/registry.ts";
import type { SpriteContext } from "./sprite-context.ts";

/** Milliseconds a pilot has for its answer before the sprite counts as unhealthy. */
const CHECK_TIMEOUT_MS = 5_000;

/** Asks a running sprite's pilot whether it is well. A sleeping sprite is not woken for it. */
export async function checkSprite(context: SpriteContext, pilot: PilotRequester, record: SpriteRecord): Promise<SpriteCheck> {
  const startedAt = performance.now();
  const verdict = await judge(context, pilot, record);
  return {
    sprite_name: record.name,
    sprite_id: record.id,
    ...verdict,
    checked_at: new Date(context.now()).toISOString(),
    elapsed: Math.round(performance.now() - startedAt),
  };
}

async function judge(context: SpriteContext, pilot: PilotRequester, record: SpriteRecord): Promise<Pick<SpriteCheck, "status" | "reason">> {
  const status = context.runtime.status(record.id);
  if (status !== "running") return { status: "sleeping", reason: `the sprite is ${status}; the next request wakes it` };
  try {
    const { status: httpStatus } = await pilot(record, PILOT_ROUTES.ready, AbortSignal.timeout(CHECK_TIMEOUT_MS));
    return httpStatus === 200 ? { status: "healthy" } : { status: "unhealthy", reason: `the pilot answered with status ${httpStatus}` };
  } catch (error) {
    context.log.warn({ sprite: record.id, err: error }, "check failed");
    const isFull = error instanceof HobError && error.code === "no_space";
    return { status: "unhealthy", reason: isFull ? error.message : "the pilot does not answer" };
  }
}
