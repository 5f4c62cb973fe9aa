import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { HobError, LIMITS } from "@hob/protocol";
import { z } from "zod";
import { CACHE_KEEP_MS_MIN } from "../cache/prune.ts";
import { homeLayout } from "./home.ts";

const DAY_SECONDS = 24 * 60 * 60;

import { parseSinkAddress } from "../log-shipping/sink-address.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

const listenAddress = z.object({
  host: z.string().min(1).max(255),
  /** 0 picks a free one */
  port: z.number().int().min(0).max(65_535),
});

const DOMAIN_PATTERN = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** Settings of one daemon, complete and checked. */
export const daemonConfig = z.object({
  /** state directory, absolute; see home.ts for what is in it */
  home: z.string().refine((path) => isAbsolute(path), "an absolute path"),
  listen: listenAddress,
  /** files in PEM form, absolute, and the second address at which API and URLs are served with them; left out: no TLS */
  tls: z.object({ certFile: z.string(), keyFile: z.string(), listen: listenAddress }).optional(),
  /** sprites answer at NAME.DOMAIN; a name that ends in .localhost needs no DNS (RFC 6761 section 6.3) */
  domain: z.string().max(189).regex(DOMAIN_PATTERN, "a lower-case domain name"),
  /** sprites that may run at once; left out: as many as the host's memory allows */
  maxRunning: z.number().int().min(1).max(100_000).optional(),
  /** seconds without use after which a sprite sleeps; 0: never */
  idleTimeoutSeconds: z.number().min(0).max(LIMITS.idleTimeoutSeconds),
  /** seconds after which the memory of a sleeping sprite is dropped; 0: never */
  coldAfterSeconds: z
    .number()
    .min(0)
    .max(10 * 365 * DAY_SECONDS),
  /** seconds after which images in the cache that nobody used are removed, at least an hour; 0: never */
  cacheKeepSeconds: z
    .number()
    .min(0)
    .max(10 * 365 * DAY_SECONDS)
    .refine((seconds) => seconds === 0 || seconds * 1000 >= CACHE_KEEP_MS_MIN, "0, or at least 1h"),
  /** sprites that may be created a minute with one token; 0: no limit */
  createRate: z.number().int().min(0).max(1_000_000),
  logLevel: z.enum(LOG_LEVELS),
  /** where sprites' data is kept for good: `dir:/path` or `s3://…`, see docs/formats/storage.md */
  store: z.string().min(1).max(2048),
  /** where the logs of services are shipped; left out: nowhere */
  logSink: z
    .union([z.object({ kind: z.literal("file"), path: z.string() }), z.object({ kind: z.literal("otlp"), url: z.url() })])
    .optional(),
});
export type DaemonConfig = z.infer<typeof daemonConfig>;

/** Settings as text, from flags or the environment; a missing one is left to the next source. */
export interface RawConfig {
  home?: string | undefined;
  listen?: string | undefined;
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
  tlsListen?: string | undefined;
  domain?: string | undefined;
  maxRunning?: string | undefined;
  idleTimeout?: string | undefined;
  coldAfter?: string | undefined;
  cacheKeep?: string | undefined;
  createRate?: string | undefined;
  logLevel?: string | undefined;
  store?: string | undefined;
  logSink?: string | undefined;
}

/** The environment variable of each setting. */
export const CONFIG_VARIABLES = {
  home: "HOB_HOME",
  listen: "HOB_LISTEN",
  tlsCert: "HOB_TLS_CERT",
  tlsKey: "HOB_TLS_KEY",
  tlsListen: "HOB_TLS_LISTEN",
  domain: "HOB_DOMAIN",
  maxRunning: "HOB_MAX_RUNNING",
  idleTimeout: "HOB_IDLE_TIMEOUT",
  coldAfter: "HOB_COLD_AFTER",
  cacheKeep: "HOB_CACHE_KEEP",
  createRate: "HOB_CREATE_RATE",
  logLevel: "HOB_LOG",
  store: "HOB_STORE",
  logSink: "HOB_LOG_SINK",
} as const satisfies Record<keyof RawConfig, string>;

export const CONFIG_DEFAULTS = {
  listen: "127.0.0.1:7788",
  tlsPort: 7443,
  domain: "sprites.localhost",
  idleTimeout: "30s",
  coldAfter: "24h",
  cacheKeep: "14d",
  createRate: "0",
  logLevel: "info",
} as const;

/** The setting that a field of the configuration comes from, where the names differ. */
const SETTING_OF: Readonly<Record<string, keyof RawConfig>> = {
  idleTimeoutSeconds: "idleTimeout",
  coldAfterSeconds: "coldAfter",
  cacheKeepSeconds: "cacheKeep",
};

/** State directory when none is configured: `~/.local/share/hob`. */
export const defaultHome = (env: Readonly<Record<string, string | undefined>>): string =>
  join(env.HOME || homedir(), ".local", "share", "hob");

/**
 * Puts the settings together: a flag wins over its environment variable, that over the default. An empty text counts as missing.
 * @throws HobError `invalid_config` that names the setting
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>, flags: RawConfig = {}): DaemonConfig {
  const raw = (key: keyof RawConfig) => flags[key] || env[CONFIG_VARIABLES[key]] || undefined;
  const maxRunning = raw("maxRunning");
  const home = resolve(raw("home") ?? defaultHome(env));
  const listen = parseListen(raw("listen") ?? CONFIG_DEFAULTS.listen);
  const logSink = raw("logSink");
  const result = daemonConfig.safeParse({
    home,
    listen,
    ...tlsConfig(raw("tlsCert"), raw("tlsKey"), raw("tlsListen"), listen.host),
    domain: raw("domain") ?? CONFIG_DEFAULTS.domain,
    maxRunning: maxRunning === undefined ? undefined : /^\d+$/.test(maxRunning) ? Number(maxRunning) : Number.NaN,
    idleTimeoutSeconds: parseSeconds("idleTimeout", raw("idleTimeout") ?? CONFIG_DEFAULTS.idleTimeout),
    coldAfterSeconds: parseSeconds("coldAfter", raw("coldAfter") ?? CONFIG_DEFAULTS.coldAfter),
    cacheKeepSeconds: parseSeconds("cacheKeep", raw("cacheKeep") ?? CONFIG_DEFAULTS.cacheKeep),
    createRate: parseRate(raw("createRate") ?? CONFIG_DEFAULTS.createRate),
    logLevel: raw("logLevel") ?? CONFIG_DEFAULTS.logLevel,
    store: raw("store") ?? `dir:${homeLayout(home).store}`,
    ...(logSink === undefined ? {} : { logSink: parseSinkAddress(logSink) }),
  });
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0] ?? { path: [], message: "invalid" };
  const field = String(path[0] ?? "");
  const setting = SETTING_OF[field] ?? (field as keyof RawConfig);
  throw new HobError("invalid_config", `read setting ${setting}: ${message}`, {
    hint: `see --${kebab(setting)} and ${CONFIG_VARIABLES[setting]}`,
  });
}

const UNIT_SECONDS = { ms: 0.001, s: 1, m: 60, h: 60 * 60, d: DAY_SECONDS } as const;

/** Reads a time such as `30s`, `1.5m`, `24h`, `7d`, or seconds without a unit. @throws HobError `invalid_config` */
function parseSeconds(setting: "idleTimeout" | "coldAfter" | "cacheKeep", text: string): number {
  const [, number, unit = "s"] = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)?$/.exec(text.trim()) ?? [];
  if (number !== undefined) return Number(number) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS];
  throw new HobError("invalid_config", `read setting ${setting}: ${JSON.stringify(text)} is not a time`, {
    hint: "such as 30s, 5m or 24h; 0 means never",
  });
}

/** Reads a rate such as `10` or `10/min`; not a number where it is none, which the schema refuses. */
const parseRate = (text: string): number => Number(/^(\d{1,9})(?:\/min)?$/.exec(text.trim())?.[1] ?? Number.NaN);

/** Without an address of its own, TLS is served at that of plain HTTP, on another port. */
function tlsConfig(cert: string | undefined, key: string | undefined, listen: string | undefined, host: string): Pick<DaemonConfig, "tls"> {
  if (cert === undefined && key === undefined && listen === undefined) return {};
  if (cert === undefined || key === undefined) {
    throw new HobError("invalid_config", `read setting ${cert === undefined ? "tls-cert" : "tls-key"}: it is missing`, {
      hint: "TLS needs both --tls-cert and --tls-key",
    });
  }
  const address = listen === undefined ? { host, port: CONFIG_DEFAULTS.tlsPort } : parseListen(listen);
  return { tls: { certFile: resolve(cert), keyFile: resolve(key), listen: address } };
}

/** Reads `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`; without a host it is 127.0.0.1. */
export function parseListen(text: string): DaemonConfig["listen"] {
  const [, v6, v4, port] = /^(?:(?:\[([0-9a-fA-F:.%a-z]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > 65_535) {
    throw new HobError("invalid_config", `read setting listen: ${JSON.stringify(text)} is not HOST:PORT`, {
      hint: `such as ${CONFIG_DEFAULTS.listen}, or [::1]:7788; port 0 picks a free one`,
    });
  }
  return { host: v6 ?? (v4 || "127.0.0.1"), port: Number(port) };
}

/** How long images in the cache stay that nobody uses, milliseconds; Infinity: for ever. */
export const cacheKeepMs = ({ cacheKeepSeconds }: Pick<DaemonConfig, "cacheKeepSeconds">): number =>
  cacheKeepSeconds === 0 ? Number.POSITIVE_INFINITY : cacheKeepSeconds * 1000;

/** Where a client on this machine reaches a daemon that listens there. */
export function localUrl({ host, port }: DaemonConfig["listen"]): string {
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`;
}

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
