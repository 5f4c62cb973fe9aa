import { z } from "zod";
import { CHECKPOINT_LIMITS, checkpoint } from "./api/checkpoints.ts";
import { spritePolicies } from "./api/policies.ts";
import { storageStatus } from "./api/storage.ts";
import { storageAssignment, storedHistory } from "./relay.ts";

/**
 * The private protocol between hobd and one pilot: JSON over HTTP on the pilot's port inside the microVM,
 * which only the host can reach. Every request carries `Authorization: Bearer <pilot token>`.
 *
 * | route | meaning |
 * | --- | --- |
 * | GET /hob/ready | 200 once the inner container runs, or failed to; version and timings |
 * | POST /hob/resumed | first request after every restore: entropy, clock, identity, policies; 204 |
 * | POST /hob/policies | takes the policies of this sprite: in force when it answers; 204 |
 * | POST /hob/prepare-save | flush to disk and settle before a memory save; 204 |
 * | POST /hob/attach | after `resumed` with a base: put the sprite of the object store in place of the template's; 204 |
 * | POST /hob/repair | bring what the store has lost of the states named back into it, as far as this machine has it; 204 |
 * | GET /hob/relay, upgrade | the way to the object store, see relay.ts; 101 |
 * | GET /hob/activity | what keeps the sprite awake from inside, and for how long nothing has happened |
 * | POST /hob/prepare-sleep | decide once more whether the sprite may sleep now; if so, flush to disk |
 * | POST /hob/settle | after prepare-sleep said `unsettled`: an automatic checkpoint, and into the store what it lacks, for a bounded time |
 * | GET /hob/ingress, upgrade to `hob-tunnel` | a connection to what answers the sprite's URL, its bytes as they are; 101 |
 * | POST /hob/freeze | stop the user's processes and changes of checkpoints until the next `resumed`, for a memory save; FreezeResponse |
 * | POST /hob/thaw | let them go on: the save has failed; 204 |
 * | POST /hob/logs | what services wrote since a cursor; waits for more when there is nothing |
 * | POST /hob/shutdown | stop the inner container, unmount the volume, power off; 202 |
 *
 * Anything else on that port is the public API of this sprite, `/v1/sprites/NAME/…`, forwarded by the front door.
 */
export const PILOT_ROUTES = {
  ready: "/hob/ready",
  resumed: "/hob/resumed",
  policies: "/hob/policies",
  prepareSave: "/hob/prepare-save",
  activity: "/hob/activity",
  prepareSleep: "/hob/prepare-sleep",
  settle: "/hob/settle",
  freeze: "/hob/freeze",
  thaw: "/hob/thaw",
  logs: "/hob/logs",
  shutdown: "/hob/shutdown",
  attach: "/hob/attach",
  repair: "/hob/repair",
  /** upgraded: relay.ts */
  relay: "/hob/relay",
  ingress: "/hob/ingress",
} as const;

/**
 * Names one request of a client, a UUID. The host repeats it when it sends a request again because the connection was
 * lost, or seems to be. A pilot acts on a name once: it refuses a repetition with `conflict` when the first one has
 * arrived. A request with an effect keeps its name for good; others may get a new one.
 */
export const REQUEST_ID_HEADER = "hob-request-id";

/** On a 503: the pilot is being started, and has done nothing about the request, nor noted its name. The host sends it again. */
export const STARTING_HEADER = "hob-starting";

/** Protocol that a connection to `PILOT_ROUTES.ingress` is upgraded to: the bytes of a TCP connection inside the sprite. */
export const TUNNEL_PROTOCOL = "hob-tunnel";

/** TCP port of the pilot inside the microVM. */
export const PILOT_PORT = 8080;

/** Who this sprite is. Sent with `resumed` after a restore and through the boot configuration after a cold boot. */
export const identity = z.object({
  id: z.string(),
  name: z.string(),
  organization: z.string(),
  url: z.string(),
  /** 32 hexadecimal digits, machine-id(5) */
  machineId: z.string().regex(/^[0-9a-f]{32}$/),
  /** replaces the token that this pilot accepted so far */
  pilotToken: z.string().min(32),
  environment: z.record(z.string(), z.string()),
  /** left out by older hosts: those in force stay */
  policies: spritePolicies.optional(),
});
export type Identity = z.infer<typeof identity>;

export const resumedRequest = z.object({
  /** base64, at least 32 bytes of the host's getrandom(2) */
  entropy: z.string().min(44),
  /** Unix time of the host, milliseconds */
  wallclockMs: z.number().int().positive(),
  identity,
  /** absent: there is no object store */
  storage: storageAssignment.optional(),
  /** instead of `storage`: this VM only shows what the store has of a sprite */
  history: storedHistory.optional(),
  /** names this start of the VM: relay connections of another start are dead */
  start: z.string().max(64).optional(),
  /** addresses of the host's own: no sprite may connect to them. Left out: those of the last time */
  hostAddresses: z.array(z.ipv4()).max(1024).optional(),
});
export type ResumedRequest = z.infer<typeof resumedRequest>;

/** Something that keeps a sprite awake: an open session, a task, a request under way. */
export const activityHolder = z.object({
  /** `exec`, `task`, `request`, … */
  kind: z.string().max(64),
  /** for people: which one */
  label: z.string().max(256),
  /** Unix time, milliseconds */
  since: z.number(),
});
export type ActivityHolder = z.infer<typeof activityHolder>;

export const pilotActivity = z.object({
  holders: z.array(activityHolder).max(1_000),
  /** milliseconds of the VM's running time since something last happened */
  idleMs: z.number().min(0),
});
export type PilotActivity = z.infer<typeof pilotActivity>;

export const prepareSleepRequest = z.object({
  /** the sprite may sleep when nothing has happened for this long, milliseconds */
  idleMs: z.number().min(0),
  /** sleep whatever holds it */
  force: z.boolean(),
  /** not before what was changed is kept, in a checkpoint and in the object store; left out by older hosts */
  settled: z.boolean().optional(),
});
export type PrepareSleepRequest = z.infer<typeof prepareSleepRequest>;

/**
 * `ready`: all is on disk and the VM may be saved at once. Otherwise `unsettled` says that nothing but what was asked for with
 * `settled` is in the way, or the rest why not.
 */
export const prepareSleepResponse = pilotActivity.extend({ ready: z.boolean(), unsettled: z.boolean().optional() });
export type PrepareSleepResponse = z.infer<typeof prepareSleepResponse>;

export const settleRequest = prepareSleepRequest.omit({ settled: true }).extend({
  /** how long to wait for the object store, milliseconds */
  waitMs: z.number().int().min(0).max(60_000),
});
export type SettleRequest = z.infer<typeof settleRequest>;

/** What the object store does not have of a sprite. */
export const storageLag = z.object({
  /** how long the oldest write that it lacks has been waiting, milliseconds; 0: it has all of them */
  lagMs: z.number().min(0).max(1e12),
  /** checkpoints that it lacks */
  checkpoints: z.number().int().min(0).max(1e6),
  /** why the last attempt failed */
  error: z.string().nullable(),
});
export type StorageLag = z.infer<typeof storageLag>;

/** `ready: false`: the sprite may not sleep, the rest says why, and nothing was done. `lag: null`: the store has everything, or there is none. */
export const settleResponse = pilotActivity.extend({ ready: z.boolean(), lag: storageLag.nullable() });
export type SettleResponse = z.infer<typeof settleResponse>;

/** Bytes of JSON: of the checkpoints, and of the whole answer. */
export const FREEZE_LIMITS = { checkpointsBytes: 3 * 1024 * 1024, answerBytes: 4 * 1024 * 1024 } as const;

/**
 * What the host needs to answer for the sprite while that sleeps. An older pilot answers 204 with nothing, or leaves out what it does
 * not know of: then it is not known.
 */
export const freezeResponse = z.object({
  /** `writeId` of the head in the store that has everything that the sprite has; null when something is here only */
  storedAs: z.string().max(64).nullable(),
  /** as `GET /checkpoints` shows all of them; null while they are being changed, and when they are too long */
  checkpoints: z
    .array(checkpoint)
    .max(CHECKPOINT_LIMITS.checkpoints + 1)
    .nullish(),
  /** as `GET /storage` shows it */
  storage: storageStatus.optional(),
  /** null: the store has everything, or there is none */
  lag: storageLag.nullish(),
});
export type FreezeResponse = z.infer<typeof freezeResponse>;

/** What `fsck` has found damaged in one sprite. */
export const repairRequest = z.object({
  damage: z
    .array(
      z.object({
        /** null: the newest state */
        checkpoint: z.string().max(64).nullable(),
        /** none: the document of the checkpoint is lost */
        blocks: z.array(z.object({ first: z.number().int().min(0), count: z.number().int().min(1) })).max(100_000),
      }),
    )
    .max(20_000),
});
export type RepairRequest = z.infer<typeof repairRequest>;

export const readyResponse = z.object({
  protocol: z.number(),
  version: z.string(),
  /** CLOCK_BOOTTIME of the microVM's kernel, milliseconds */
  uptimeMs: z.number(),
  pilotPid: z.number(),
  bounces: z.number(),
  /** id of the sprite this pilot serves; empty in a template */
  spriteId: z.string(),
  /** why the inner container does not run; it is tried again and again */
  containerFailure: z.string().optional(),
});
export type ReadyResponse = z.infer<typeof readyResponse>;

export interface BounceResponse {
  totalMs: number;
  steps: { name: string; ms: number }[];
  uptimeMs: number;
  pilotPid: number;
}

/** How far the log of each service was read: a file, named so that no later one has the same name, and bytes of it. */
export const logCursor = z
  .record(z.string().max(64), z.object({ segment: z.string().max(64), offset: z.number().int().min(0) }))
  .refine((cursor) => Object.keys(cursor).length <= 256, "too many services");
export type LogCursor = z.infer<typeof logCursor>;

export const LOG_PULL_LIMITS = { waitMs: 30_000, bytes: 256 * 1024, answerBytes: 2 * 1024 * 1024 } as const;

export const logsPullRequest = z.object({
  cursor: logCursor,
  /** how long to wait when there is nothing new, milliseconds */
  waitMs: z.number().int().min(0).max(LOG_PULL_LIMITS.waitMs),
});

/** Whole lines of one service, one stream and one time. */
export const shippedBlock = z.object({
  service: z.string().max(64),
  stream: z.enum(["stdout", "stderr"]),
  /** Unix time, milliseconds */
  timeMs: z.number(),
  text: z.string(),
});
export type ShippedBlock = z.infer<typeof shippedBlock>;

export const logsPullResponse = z.object({ blocks: z.array(shippedBlock), cursor: logCursor });
export type LogsPullResponse = z.infer<typeof logsPullResponse>;
