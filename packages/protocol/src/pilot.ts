import { z } from "zod";

/**
 * The private protocol between hobd and one pilot: JSON over HTTP on the pilot's port inside the microVM,
 * which only the host can reach. Every request carries `Authorization: Bearer <pilot token>`.
 *
 * | route | meaning |
 * | --- | --- |
 * | GET /hob/ready | 200 once the inner container runs, or failed to; version and timings |
 * | POST /hob/resumed | first request after every restore: entropy, clock, identity; 204 |
 * | POST /hob/prepare-save | flush to disk and settle before a memory save; 204 |
 * | GET /hob/ingress, upgrade to `hob-tunnel` | a connection to what answers the sprite's URL, its bytes as they are; 101 |
 * | POST /hob/shutdown | stop the inner container, unmount the volume, power off; 202 |
 *
 * Anything else on that port is the public API of this sprite, `/v1/sprites/NAME/…`, forwarded by the front door.
 */
export const PILOT_ROUTES = {
  ready: "/hob/ready",
  resumed: "/hob/resumed",
  prepareSave: "/hob/prepare-save",
  shutdown: "/hob/shutdown",
  ingress: "/hob/ingress",
} as const;

/**
 * Names one request of a client, a UUID. The host sets it on requests that may have an effect, and repeats it when it
 * sends one again because the connection was lost. A pilot acts on a name once: it refuses a repetition with `conflict`
 * when the first one has arrived.
 */
export const REQUEST_ID_HEADER = "hob-request-id";

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
});
export type Identity = z.infer<typeof identity>;

export const resumedRequest = z.object({
  /** base64, at least 32 bytes of the host's getrandom(2) */
  entropy: z.string().min(44),
  /** Unix time of the host, milliseconds */
  wallclockMs: z.number().int().positive(),
  identity,
  /** addresses of the host's own: no sprite may connect to them. Left out: those of the last time */
  hostAddresses: z.array(z.ipv4()).max(1024).optional(),
});
export type ResumedRequest = z.infer<typeof resumedRequest>;

export interface ReadyResponse {
  protocol: number;
  version: string;
  /** CLOCK_BOOTTIME of the microVM's kernel, milliseconds */
  uptimeMs: number;
  pilotPid: number;
  bounces: number;
  /** id of the sprite this pilot serves; empty in a template */
  spriteId: string;
  /** why the inner container does not run; it is tried again and again */
  containerFailure?: string;
}

export interface BounceResponse {
  totalMs: number;
  steps: { name: string; ms: number }[];
  uptimeMs: number;
  pilotPid: number;
}
