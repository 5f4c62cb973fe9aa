import { z } from "zod";
import { LIMITS, MACHINE_LIMITS } from "./limits.ts";

/** A DNS label: it becomes part of the sprite's URL. RFC 1123 section 2.1, lower case only. */
export const SPRITE_NAME_PATTERN = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export const spriteName = z
  .string()
  .regex(SPRITE_NAME_PATTERN, "1 to 63 characters a-z, 0-9 and '-', beginning and ending with a letter or digit");

const boundedInt = ({ min, max }: { min: number; max: number }) => z.number().int().min(min).max(max);

/** What a client may ask for; all optional, all bounded. `region` is accepted for the SDKs and has no effect. */
export const spriteConfig = z.object({
  ram_mb: boundedInt(MACHINE_LIMITS.ramMb).optional(),
  cpus: boundedInt(MACHINE_LIMITS.cpus).optional(),
  storage_gb: boundedInt(MACHINE_LIMITS.storageGb).optional(),
  region: z.string().max(64).optional(),
});
export type SpriteConfig = z.infer<typeof spriteConfig>;

export const urlSettings = z.object({
  auth: z.enum(["sprite", "public"]).optional(),
  private_access: z.enum(["admins", "organization", "org_users"]).optional(),
});
export type UrlSettings = z.infer<typeof urlSettings>;

const labels = z.array(z.string().min(1).max(LIMITS.labelBytes)).max(LIMITS.labels);

/** Hob's own: seconds without use after which this sprite sleeps; 0: never; null: as the daemon is configured. */
const idleTimeoutSeconds = z.number().int().min(0).max(LIMITS.idleTimeoutSeconds).nullable();

export const createSpriteRequest = z.object({
  name: spriteName,
  config: spriteConfig.nullish(),
  environment: z.record(z.string().regex(/^[^=\0]+$/), z.string()).nullish(),
  url_settings: urlSettings.nullish(),
  labels: labels.nullish(),
  wait_for_capacity: z.boolean().nullish(),
  runtime: z.enum(["default", "dev"]).nullish(),
  idle_timeout_seconds: idleTimeoutSeconds.optional(),
});
export type CreateSpriteRequest = z.infer<typeof createSpriteRequest>;

export const updateSpriteRequest = z.object({
  url_settings: urlSettings.nullish(),
  labels: labels.nullish(),
  clear_labels: z.boolean().nullish(),
  idle_timeout_seconds: idleTimeoutSeconds.optional(),
});
export type UpdateSpriteRequest = z.infer<typeof updateSpriteRequest>;

export const SPRITE_STATUSES = ["cold", "warm", "running"] as const;
export type SpriteStatus = (typeof SPRITE_STATUSES)[number];

const time = z.iso.datetime();

/** A sprite as the API shows it. Times are RFC 3339. */
export const sprite = z.object({
  id: z.string(),
  name: z.string(),
  organization: z.string(),
  url: z.string(),
  status: z.enum(SPRITE_STATUSES),
  created_at: time,
  updated_at: time,
  url_settings: z.object({ auth: z.enum(["sprite", "public"]), private_access: z.string().optional() }),
  labels: z.array(z.string()).optional(),
  version: z.string(),
  environment_version: z.string(),
  last_running_at: time.nullable(),
  last_warming_at: time.nullable(),
  config: z.object({ ram_mb: z.number(), cpus: z.number(), storage_gb: z.number(), region: z.string() }),
  environment: z.record(z.string(), z.string()),
  /** Hob's own; left out: as the daemon is configured */
  idle_timeout_seconds: z.number().optional(),
});
export type Sprite = z.infer<typeof sprite>;

const organizationCounters = z.object({
  name: z.string(),
  running: z.number(),
  warm: z.number(),
  cold: z.number(),
  running_limit: z.number(),
  warm_limit: z.number(),
});

/** An answer of `GET /v1/sprites`. Counters are given twice because the SDKs read two shapes. */
export const spriteList = z.object({
  sprites: z.array(sprite),
  has_more: z.boolean(),
  next_continuation_token: z.string().optional(),
  running: z.number(),
  warm: z.number(),
  cold: z.number(),
  running_limit: z.number(),
  warm_limit: z.number(),
  name: z.string(),
  org: organizationCounters,
});
export type SpriteList = z.infer<typeof spriteList>;

/** One line of `GET /v1/sprites` as NDJSON. */
export const spriteWatchLine = z.object({
  type: z.enum(["snapshot", "created", "updated", "deleted", "status", "heartbeat"]),
  name: z.string().optional(),
  status: z.enum(SPRITE_STATUSES).optional(),
  running_version: z.string().optional(),
  last_running_at: time.nullable(),
  last_warming_at: time.nullable(),
  timestamp: time.nullable(),
  org: organizationCounters,
});
export type SpriteWatchLine = z.infer<typeof spriteWatchLine>;

/** Answer of `GET /v1/sprites/NAME/check`. `elapsed` is in milliseconds. */
export const spriteCheck = z.object({
  sprite_name: z.string(),
  sprite_id: z.string(),
  status: z.enum(["healthy", "unhealthy", "sleeping"]),
  reason: z.string().optional(),
  checked_at: time,
  elapsed: z.number(),
});
export type SpriteCheck = z.infer<typeof spriteCheck>;

/** Answer of `POST /v1/sprites/NAME/restart`. */
export const spriteRestarted = z.object({ sprite_name: z.string(), machine_id: z.string(), message: z.string() });
export type SpriteRestarted = z.infer<typeof spriteRestarted>;

/** Answer of `GET /v1/sprites/NAME/activity`: why the sprite is awake, and until when. */
export const spriteActivity = z.object({
  sprite_name: z.string(),
  status: z.enum(SPRITE_STATUSES),
  /** what keeps it awake */
  holders: z.array(z.object({ kind: z.string(), label: z.string(), since: time })),
  /** seconds without use after which it sleeps; 0: never */
  idle_timeout_seconds: z.number(),
  /** since when nothing has held or used it; null while something does, and while it sleeps */
  idle_since: time.nullable(),
  /** when it sleeps if nobody uses it before; null: not by itself */
  sleeps_at: time.nullable(),
  /** when its memory is dropped if nobody wakes it before; null: not by itself */
  cold_at: time.nullable(),
  /** while it sleeps: what the object store lacks of it, if anything: the oldest write since then, and checkpoints. The daemon wakes it for that */
  behind: z.object({ since: time, checkpoints: z.number(), error: z.string().nullable() }).nullable().default(null),
  /** why it last began to run, as far as this daemon has seen it */
  last_wake: z.object({ at: time, reason: z.string() }).nullable(),
});
export type SpriteActivity = z.infer<typeof spriteActivity>;

export const sleepRequest = z.object({ force: z.boolean().optional() });
export type SleepRequest = z.infer<typeof sleepRequest>;

/** Answer of `POST /v1/sprites/NAME/sleep`. */
export const sleepAnswer = z.object({ sprite_name: z.string(), status: z.enum(SPRITE_STATUSES) });
export type SleepAnswer = z.infer<typeof sleepAnswer>;

export const createTokenRequest = z.object({ description: z.string().max(200).optional(), invite_code: z.string().max(256).optional() });
export const createTokenAnswer = z.object({ token: z.string() });
