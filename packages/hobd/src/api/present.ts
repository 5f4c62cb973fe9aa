import { type Identity, SPRITE_VERSION, type Sprite, type SpriteStatus } from "@hob/protocol";
import type { SpriteRecord } from "../registry/registry.ts";
import { ORGANIZATION } from "../tokens/token-format.ts";

/** The one region that a self-hosted Hob has. */
const REGION = "local";

/** The address a sprite's own web server is reached at. A loopback name (RFC 6761 section 6.3) with the default domain. */
export type SpriteUrl = (name: string) => string;

/** `http://NAME.DOMAIN:PORT`, the port left out where it is the scheme's own. */
export const spriteUrlOf =
  (domain: string, port: number, scheme: "http" | "https" = "http"): SpriteUrl =>
  (name) =>
    `${scheme}://${name}.${domain}${port === (scheme === "http" ? 80 : 443) ? "" : `:${port}`}`;

const time = (unixMs: number): string => new Date(unixMs).toISOString();
const optionalTime = (unixMs: number | null): string | null => (unixMs === null ? null : time(unixMs));

/** A sprite as clients see it. */
export function presentSprite(record: SpriteRecord, status: SpriteStatus, urlOf: SpriteUrl): Sprite {
  const { private_access, auth } = record.urlSettings;
  return {
    id: record.id,
    name: record.name,
    organization: ORGANIZATION,
    url: urlOf(record.name),
    status,
    created_at: time(record.createdAt),
    updated_at: time(record.updatedAt),
    url_settings: { auth, ...(private_access === undefined ? {} : { private_access }) },
    ...(record.labels.length === 0 ? {} : { labels: record.labels }),
    version: SPRITE_VERSION,
    environment_version: SPRITE_VERSION,
    last_running_at: optionalTime(record.lastRunningAt),
    last_warming_at: optionalTime(record.lastWarmingAt),
    config: { ram_mb: record.machine.ramMb, cpus: record.machine.cpus, storage_gb: record.machine.storageGb, region: REGION },
    environment: record.environment,
    ...(record.idleTimeoutSeconds === null ? {} : { idle_timeout_seconds: record.idleTimeoutSeconds }),
  };
}

/** A sprite as its pilot knows it. */
export const identityOf = (record: SpriteRecord, urlOf: SpriteUrl): Identity => ({
  id: record.id,
  name: record.name,
  organization: ORGANIZATION,
  url: urlOf(record.name),
  machineId: record.machineId,
  pilotToken: record.pilotToken,
  environment: record.environment,
  policies: record.policies,
});

export type StatusCounts = Record<SpriteStatus, number>;

export function countStatuses(statuses: Iterable<SpriteStatus>): StatusCounts {
  const counts: StatusCounts = { running: 0, warm: 0, cold: 0 };
  for (const status of statuses) counts[status]++;
  return counts;
}
