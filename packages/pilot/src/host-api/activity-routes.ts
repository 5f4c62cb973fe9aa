import { HobError, PILOT_ROUTES, type PilotActivity, type PrepareSleepResponse, prepareSleepRequest } from "@hob/protocol";
import { Hono } from "hono";
import type { Activity } from "../activity/activity.ts";

/** As many as the host reads. */
const HOLDERS_MAX = 1_000;
const TEXT_CHARACTERS_MAX = 256;

/**
 * What keeps the sprite awake from inside, for the host. `prepare-sleep` flushes first and then decides, so that what
 * begins while it flushes still keeps the sprite awake.
 */
export function activityRoutes(activity: Activity, sync: () => Promise<void>): Hono {
  const app = new Hono();
  app.get(PILOT_ROUTES.activity, (c) => c.json(report(activity)));
  app.post(PILOT_ROUTES.prepareSleep, async (c) => {
    const parsed = prepareSleepRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `prepare-sleep: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    const { idleMs, force } = parsed.data;
    const mayStillSleep = () => force || (activity.holders().length === 0 && activity.idleMs() >= idleMs);
    if (mayStillSleep()) await sync();
    const answer: PrepareSleepResponse = { ...report(activity), ready: mayStillSleep() };
    return c.json(answer);
  });
  return app;
}

function report(activity: Activity): PilotActivity {
  const holders = activity.holders().slice(0, HOLDERS_MAX);
  return {
    holders: holders.map(({ kind, name, since }) => ({ kind: kind.slice(0, 64), label: name.slice(0, TEXT_CHARACTERS_MAX), since })),
    idleMs: activity.idleMs(),
  };
}
