import { CURRENT } from "@hob/protocol";

/** Longer ids are nobody's. */
const ID_CHARACTERS_MAX = 80;

/**
 * The states of a sprite that a request reads, if it only reads history (`docs/api/history.md`): ids of checkpoints, `CURRENT` for
 * the newest state. Undefined for all other requests, and for those that a pilot would refuse.
 * @param rest path below the sprite and query, as sent
 */
export function statesRead(method: string | undefined, rest: string): ReadonlySet<string> | undefined {
  if (method !== "GET" && method !== "HEAD") return undefined;
  const { segments, parameters } = splitRest(rest);
  const [checkpoints, id = "", view, ...more] = segments;
  if (checkpoints !== "checkpoints" || more.length > 0) return undefined;
  if (view === "files" || view === "content") return idsOf(id);
  if (id !== "diff" || view !== undefined) return undefined;
  return idsOf(parameters.get("from") ?? "", parameters.get("to") ?? CURRENT);
}

/** A path below a sprite, its segments decoded, and its query. */
export function splitRest(rest: string): { segments: string[]; parameters: URLSearchParams } {
  const queryAt = rest.indexOf("?");
  const path = queryAt < 0 ? rest : rest.slice(0, queryAt);
  const parameters = new URLSearchParams(queryAt < 0 ? "" : rest.slice(queryAt + 1));
  return { segments: path.split("/").slice(1).map(decoded), parameters };
}

/** Empty for what is not well formed. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return "";
  }
}

function idsOf(...ids: readonly string[]): ReadonlySet<string> | undefined {
  if (ids.some((id) => id === "" || id.length > ID_CHARACTERS_MAX)) return undefined;
  return new Set(ids.map((id) => (id.toLowerCase() === CURRENT.toLowerCase() ? CURRENT : id)));
}
