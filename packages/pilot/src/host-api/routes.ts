import {
  HOB_VERSION,
  HobError,
  PILOT_PROTOCOL_VERSION,
  PILOT_ROUTES,
  type ReadyResponse,
  repairRequest,
  resumedRequest,
  type StorageLag,
  spritePolicies,
} from "@hob/protocol";
import { Hono } from "hono";
import type { Activity } from "../activity/activity.ts";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import type { InnerContainer } from "../container/container.ts";
import type { SpriteStorage } from "../durability/sprite-storage.ts";
import type { LogDirectory } from "../logs/log-directory.ts";
import type { Firewall } from "../network/firewall.ts";
import type { Policies } from "../policies/policies.ts";
import type { Sprite } from "../sprite.ts";
import { activityRoutes } from "./activity-routes.ts";
import { handOver } from "./hand-over.ts";
import { logRoutes } from "./log-routes.ts";

export interface HostApiParts {
  sprite: Sprite;
  container: InnerContainer;
  firewall: Firewall;
  policies: Policies;
  activity: Activity;
  storage: SpriteStorage;
  checkpoints: Checkpoints;
  /** of services */
  logs: LogDirectory;
  /** resolves to the uptime of the kernel, milliseconds */
  uptimeMs: () => Promise<number>;
  /** flushes everything to the volume's disk */
  sync: () => Promise<void>;
  /** whether the start is over */
  isUp: () => boolean;
  /** whether something of what is on the disk is in no checkpoint, or not in the object store */
  isUnsettled: () => Promise<boolean>;
  /** before a sleep: keeps what was changed, here and in the object store; resolves after that time at the latest */
  settle: (waitMs: number) => Promise<StorageLag | null>;
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
      ...(container.failure === undefined ? {} : { containerFailure: container.failure.message }),
    };
    // A sprite whose container cannot start is ready to be repaired: its checkpoints can be restored.
    const isReady = parts.isUp() && (container.state() === "running" || container.failure !== undefined);
    return c.json(answer, isReady ? 200 : 503);
  });
  app.post(PILOT_ROUTES.resumed, async (c) => {
    const parsed = resumedRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `resumed: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    const { hostAddresses, storage, start, history, identity } = parsed.data;
    parts.activity.touch();
    parts.checkpoints.turns.goOn();
    parts.storage.resumed(storage, start, history);
    const isNew = sprite.identity?.id !== identity.id;
    await Promise.all([
      isNew ? parts.checkpoints.noteNew() : undefined,
      sprite.resumed(parsed.data),
      hostAddresses === undefined ? undefined : parts.firewall.closeHost(hostAddresses),
      parts.policies.apply(identity.id, identity.policies),
    ]);
    await container.thaw();
    return c.body(null, 204);
  });
  app.post(PILOT_ROUTES.policies, async (c) => {
    const parsed = spritePolicies.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `policies: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    await parts.policies.apply(sprite.identity?.id ?? "", parsed.data);
    return c.body(null, 204);
  });
  app.post(PILOT_ROUTES.freeze, async (c) => c.json(await handOver(parts)));
  app.post(PILOT_ROUTES.thaw, async (c) => {
    parts.checkpoints.turns.goOn();
    await container.thaw();
    return c.body(null, 204);
  });
  app.post(PILOT_ROUTES.attach, async (c) => {
    await parts.storage.attach();
    parts.checkpoints.adopted();
    return c.body(null, 204);
  });
  app.post(PILOT_ROUTES.repair, async (c) => {
    const parsed = repairRequest.safeParse(await c.req.json().catch(() => undefined));
    if (!parsed.success) throw new HobError("invalid_request", `repair: ${parsed.error.issues[0]?.message ?? "not JSON"}`);
    await parts.storage.repair(parsed.data);
    return c.body(null, 204);
  });
  app.post(PILOT_ROUTES.prepareSave, async (c) => {
    await parts.sync();
    return c.body(null, 204);
  });
  app.route("/", activityRoutes(parts));
  app.post(PILOT_ROUTES.shutdown, (c) => {
    setImmediate(parts.shutDown);
    return c.body(null, 202);
  });
  app.route("/", logRoutes(parts.logs));
  return app;
}
