import type { KillEvent, SessionItem, SessionList } from "@hob/protocol/api/exec.ts";
import { HobError } from "@hob/protocol/errors.ts";
import { callJson, type Endpoint } from "./http.ts";
import { callLines } from "./ndjson.ts";

export interface KillOptions {
  /** a name with or without SIG, or a number; default SIGTERM */
  signal?: string | undefined;
  /** seconds until SIGKILL, default 10, at most 3600; 0 only delivers the signal */
  timeoutSeconds?: number | undefined;
}

const DEFAULT_TIMEOUT_SECONDS = 10;
/** For SIGKILL to work, and for a sleeping sprite to wake. */
const KILL_EXTRA_MS = 90_000;

/** @internal use HobClient.sessions. @param path of all sessions of the sprite */
export async function listSessions(endpoint: Endpoint, path: string, timeoutMs: number): Promise<SessionItem[]> {
  const list = await callJson<SessionList>(endpoint, "GET", path, { timeoutMs });
  if (!Array.isArray(list?.sessions)) throw new HobError("bad_answer", "list sessions: the answer has no list");
  return list.sessions;
}

/** @internal use HobClient.killSession. @param path of all sessions of the sprite */
export async function* killSession(
  endpoint: Endpoint,
  path: string,
  id: string,
  options: KillOptions,
): AsyncGenerator<KillEvent, void, undefined> {
  const { signal, timeoutSeconds = DEFAULT_TIMEOUT_SECONDS } = options;
  yield* callLines<KillEvent>(endpoint, "POST", `${path}/${encodeURIComponent(id)}/kill`, {
    query: { signal, timeout: `${timeoutSeconds}s` },
    timeoutMs: timeoutSeconds * 1_000 + KILL_EXTRA_MS,
  });
}
