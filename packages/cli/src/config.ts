import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { HobError } from "@hob/protocol/errors.ts";

/** What the global flags said. */
export interface GlobalFlags {
  url?: string;
  token?: string;
  home?: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** The file `hobd.json` in the home directory: which daemon serves it. */
export interface DaemonRecord {
  pid: number;
  url: string;
  version: string;
}

export interface ClientSettings {
  url: string;
  token: string | undefined;
}

/** Where Hob keeps its state: `--home`, else HOB_HOME, else `hob` in the user's data directory. */
export function resolveHome(flags: GlobalFlags, env: Environment): string {
  const given = flags.home ?? nonEmpty(env.HOB_HOME);
  return resolve(given ?? join(nonEmpty(env.HOME) ?? homedir(), ".local", "share", "hob"));
}

/**
 * URL and token to use: flags, else HOB_URL and HOB_TOKEN, else what `hob config set` has kept, else what the daemon
 * left in the home directory. A kept token goes only to the server it was kept for, and the home's own only to the
 * home's own daemon: to any other server it would be given away.
 *
 * @throws HobError `cannot_connect` when no daemon is known, `invalid_config` when a file is malformed
 */
export function resolveClientSettings(flags: GlobalFlags, env: Environment): ClientSettings {
  const home = resolveHome(flags, env);
  const givenUrl = flags.url ?? nonEmpty(env.HOB_URL);
  const givenToken = flags.token ?? nonEmpty(env.HOB_TOKEN);
  if (givenUrl !== undefined && givenToken !== undefined) return { url: givenUrl, token: givenToken };
  const daemon = readDaemonRecord(home);
  const kept = readKeptSettings(home);
  const url = givenUrl ?? kept.url ?? daemon?.url;
  if (url === undefined) {
    throw new HobError("cannot_connect", `no daemon has been started with the home ${home}`, {
      hint: "start it with 'hob serve', or say where one is with --url and --token",
    });
  }
  if (givenToken !== undefined) return { url, token: givenToken };
  if (kept.token !== undefined && sameServer(url, kept.url ?? daemon?.url ?? "")) return { url, token: kept.token };
  if (daemon === undefined || !sameServer(url, daemon.url)) {
    throw new HobError("unauthorized", `no token is known for ${url}`, { hint: "give one with --token or HOB_TOKEN" });
  }
  return { url, token: readToken(home) };
}

/** What `hob config set` keeps in the home directory. */
export interface KeptSettings {
  url?: string;
  token?: string;
}

export const keptSettingsPath = (home: string): string => join(home, "config.json");

/** @throws HobError `invalid_config` */
export function readKeptSettings(home: string): KeptSettings {
  const path = keptSettingsPath(home);
  const text = readIfThere(path);
  if (text === undefined) return {};
  try {
    const { url, token } = JSON.parse(text) as Record<string, unknown>;
    if ([url, token].every((value) => value === undefined || typeof value === "string")) {
      return { ...(url === undefined ? {} : { url: url as string }), ...(token === undefined ? {} : { token: token as string }) };
    }
  } catch {
    // Reported below, like valid JSON of another kind.
  }
  throw new HobError("invalid_config", `read ${path}: not settings of hob`, { hint: "'hob config unset' removes the file" });
}

/** @returns undefined when no daemon was ever started with this home */
export function readDaemonRecord(home: string): DaemonRecord | undefined {
  const path = join(home, "hobd.json");
  const text = readIfThere(path);
  if (text === undefined) return undefined;
  try {
    const record = JSON.parse(text) as Partial<DaemonRecord> | null;
    if (typeof record?.url === "string" && typeof record.pid === "number") {
      return { pid: record.pid, url: record.url, version: String(record.version ?? "") };
    }
  } catch {
    // Reported below, like valid JSON that is not a record.
  }
  throw new HobError("invalid_config", `read ${path}: not the record of a daemon`, { hint: "remove the file and start 'hob serve' again" });
}

function readToken(home: string): string {
  const token = readIfThere(join(home, "token"))?.trim();
  if (token !== undefined && token !== "") return token;
  throw new HobError("unauthorized", `no token is in ${home}`, { hint: "'hob token create' makes one; give it with --token or HOB_TOKEN" });
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    const error = thrown as NodeJS.ErrnoException;
    if (error.code === "ENOENT") return undefined;
    throw new HobError("invalid_config", `read ${path}: ${error.code ?? error.message}`, {
      hint: "the home directory must be readable by you; --home names another",
      cause: thrown,
    });
  }
}

const LOOPBACK_HOSTS = new Set(["127.0.0.1", "localhost", "[::1]"]);

function sameServer(left: string, right: string): boolean {
  if (!URL.canParse(left) || !URL.canParse(right)) return false;
  const [a, b] = [new URL(left), new URL(right)];
  if (a.origin === b.origin) return true;
  return a.protocol === b.protocol && a.port === b.port && LOOPBACK_HOSTS.has(a.hostname) && LOOPBACK_HOSTS.has(b.hostname);
}

/** A variable that is set to nothing counts as not set, as shells' `${VAR:-default}` has it. */
const nonEmpty = (value: string | undefined): string | undefined => (value === "" ? undefined : value);
