import { HobError, LIMITS } from "@hob/protocol";

/** Where a request goes: to the pilot of one sprite, or to the host's own API. */
export type Target =
  | { kind: "sprite"; name: string /** path below the sprite, beginning with "/", and the query, both as sent */; rest: string }
  | { kind: "api" /** the whole target in origin form */; target: string };

/** Routes below a sprite's name that the host answers itself. */
const HOST_ROUTES: ReadonlySet<string> = new Set([
  "check",
  "activity",
  "sleep",
  "restart",
  "upgrade",
  "url/ticket",
  "fork",
  "export",
  "fsck",
  "policy/network",
  "policy/privileges",
  "policy/resources",
]);

/**
 * Reads a request target (RFC 9112 section 3.2), the first thing that happens to a request, and the only place where
 * the path is taken apart.
 *
 * What follows the name is forwarded to the pilot as it was sent, with the pilot's token. The pilot also has routes
 * that only the host may call, outside `/v1/`. So everything that a URL parser would resolve into another path is
 * refused here: dot segments, also percent-encoded, and backslashes, which the WHATWG URL standard reads as slashes.
 * @throws HobError `invalid_request` | `payload_too_large`
 */
export function parseTarget(raw: string): Target {
  if (raw.length > LIMITS.requestTargetBytes) {
    throw new HobError("payload_too_large", `read request: the target exceeds ${LIMITS.requestTargetBytes} bytes`);
  }
  const target = raw.replace(/^https?:\/\/[^/?#]*/i, "");
  const queryAt = target.indexOf("?");
  const path = queryAt < 0 ? target : target.slice(0, queryAt);
  if (!path.startsWith("/") || !/^[\x21-\x7e]*$/.test(target) || target.includes("#") || path.includes("\\")) throw badTarget();
  const segments = path.split("/").map(decodeSegment);
  if (segments.some((segment) => segment === "." || segment === "..")) throw badTarget();
  const [, v1, sprites, name] = segments;
  const restPath = path.split("/").slice(4).join("/");
  if (v1 !== "v1" || sprites !== "sprites" || name === undefined || name === "" || restPath === "" || HOST_ROUTES.has(restPath)) {
    return { kind: "api", target };
  }
  return { kind: "sprite", name, rest: `/${restPath}${queryAt < 0 ? "" : target.slice(queryAt)}` };
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw badTarget();
  }
}

const badTarget = (): HobError =>
  new HobError("invalid_request", "read request: the target is malformed", {
    hint: "send an absolute path without '.' and '..' segments, percent-encoded as UTF-8",
  });
