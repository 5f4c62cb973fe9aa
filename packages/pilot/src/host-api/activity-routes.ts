import {
  HobError,
  PILOT_ROUTES,
  type PilotActivity,
  type PrepareSleepRequest,
  type PrepareSleepResponse,
  prepareSleepRequest,
  type SettleResponse,
  type StorageLag,
  settleRequest,
} from "@hob/protocol";
import { Hono } from "hono";
import type { Activity } from "../activity/activity.ts";

/** As many as the host reads. */
const HOLDERS_MAX = 1_000;
const TEXT_CHARACTERS_MAX = 256;

export interface ActivityRoutesParts {
  activity: Activity;
  /** flushes everything to the volume's disk */
  sync: () => Promise<void>;
  /** whether something of what is on the disk is in no checkpoint, or not in the object store */
  isUnsettled: () => Promise<boolean>;
  /** keeps what was changed, here and in the object store, and resolves after that time at the latest */
  settle: (waitMs: number) => Promise<StorageLag | null>;
}

/**
 * What keeps the sprite awake from inside, for the host. `prepare-sleep` flushes first and then decides, so that what
 * begins while it flushes still keeps the sprite awake. What may take long has a request of its own, `settle`: the host lets
 * requests through meanwhile.
 */
export function activityRoutes({ activity, sync, isUnsettled, settle }: ActivityRoutesParts): Hono {
  const app = new Hono();
  const maySleep = ({ force, idleMs }: Pick<PrepareSleepRequest, "force" | "idleMs">) =>
    force || (activity.holders().length === 0 && activity.idleMs() >= idleMs);
  app.get(PILOT_ROUTES.activity, (c) => c.json(report(activity)));
  app.post(PILOT_ROUTES.settle, async (c) => {
    const parsed = settleRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `settle: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    // One that is kept awake is asked again and again: nothing is kept for it each time.
    const lag = maySleep(parsed.data) ? await settle(parsed.data.waitMs) : null;
    const answer: SettleResponse = { ...report(activity), ready: maySleep(parsed.data), lag };
    return c.json(answer);
  });
  app.post(PILOT_ROUTES.prepareSleep, async (c) => {
    const parsed = prepareSleepRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `prepare-sleep: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    if (maySleep(parsed.data)) await sync();
    const unsettled = parsed.data.settled === true && maySleep(parsed.data) && (await isUnsettled());
    const ready = maySleep(parsed.data);
    const answer: PrepareSleepResponse = { ...report(activity), ready: ready && !unsettled, unsettled: ready && unsettled };
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
