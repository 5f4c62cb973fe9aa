import { type CheckpointFilter, parseCheckpointFilter } from "@hob/protocol";
import { splitRest } from "./history-request.ts";

/** What a sprite is asked that can be answered with what it said when it fell asleep. */
export type RestRequest =
  | { kind: "list"; filter: CheckpointFilter }
  | { kind: "checkpoint"; id: string }
  | { kind: "storage" }
  /** answered only when there is nothing to do */
  | { kind: "sync" };

/**
 * Undefined for all other requests.
 * @param rest path below the sprite and query, as sent
 * @throws HobError `invalid_request`, as the sprite would
 */
export function parseRestRequest(method: string | undefined, rest: string): RestRequest | undefined {
  const { segments, parameters } = splitRest(rest);
  const [family, id, ...more] = segments;
  if (method === "POST") return family === "sync" && segments.length === 1 ? { kind: "sync" } : undefined;
  if ((method !== "GET" && method !== "HEAD") || more.length > 0) return undefined;
  if (family === "storage") return id === undefined ? { kind: "storage" } : undefined;
  if (family !== "checkpoints") return undefined;
  if (id === undefined) return { kind: "list", filter: parseCheckpointFilter(firstOfEach(parameters)) };
  // `diff` is no id of one.
  return id === "" || id === "diff" ? undefined : { kind: "checkpoint", id };
}

/** Of a parameter that is given twice, the pilot takes the first. */
const firstOfEach = (parameters: URLSearchParams): Record<string, string> => Object.fromEntries([...parameters].reverse());
