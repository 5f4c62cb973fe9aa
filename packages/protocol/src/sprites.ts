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

export const createSpriteRequest = z.object({
  name: spriteName,
  config: spriteConfig.nullish(),
  environment: z.record(z.string().regex(/^[^=\0]+$/), z.string()).nullish(),
  url_settings: urlSettings.nullish(),
  labels: labels.nullish(),
  wait_for_capacity: z.boolean().nullish(),
  runtime: z.enum(["default", "dev"]).nullish(),
});
export type CreateSpriteRequest = z.infer<typeof createSpriteRequest>;

export const updateSpriteRequest = z.object({
  url_settings: urlSettings.nullish(),
  labels: labels.nullish(),
  clear_labels: z.boolean().nullish(),
});
export type UpdateSpriteRequest = z.infer<typeof updateSpriteRequest>;

export const SPRITE_STATUSES = ["cold", "warm", "running"] as const;
export type SpriteStatus = (typeof SPRITE_STATUSES)[number];

/** A sprite as the API shows it. Times are RFC 3339. */
export interface Sprite {
  id: string;
  name: string;
  organization: string;
  url: string;
  status: SpriteStatus;
  created_at: string;
  updated_at: string;
  url_settings: { auth: "sprite" | "public"; private_access?: string };
  labels?: string[];
  version: string;
  environment_version: string;
  last_running_at: string | null;
  last_warming_at: string | null;
  config: { ram_mb: number; cpus: number; storage_gb: number; region: string };
  environment: Record<string, string>;
}

/** An answer of `GET /v1/sprites`. Counters are given twice because the SDKs read two shapes. */
export interface SpriteList {
  sprites: Sprite[];
  has_more: boolean;
  next_continuation_token?: string;
  running: number;
  warm: number;
  cold: number;
  running_limit: number;
  warm_limit: number;
  name: string;
  org: { name: string; running: number; warm: number; cold: number; running_limit: number; warm_limit: number };
}
