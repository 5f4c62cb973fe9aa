import type { IncomingMessage } from "node:http";
import { HobError, LIMITS, SPRITE_NAME_PATTERN } from "@hob/protocol";

/** Whom a request is for, by the name it was sent to. */
export type HostTarget =
  /** the API: any name that is not below the domain */
  | { kind: "api" }
  /** a sprite's URL */
  | { kind: "url"; name: string /** as it was sent, with the port */; authority: string }
  /** below the domain, and no sprite can have this name */
  | { kind: "nowhere" };

/** RFC 3986 section 3.2, without user information. The underscore is no letter of host names, and common on private networks. */
const AUTHORITY = /^([a-z0-9._-]*|\[[0-9a-f:.]+\])(:[0-9]{0,5})?$/i;
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]*)/i;

/**
 * Decides between the API and the sprites' URLs, before anything else of a request is looked at. What two readers could
 * understand differently is refused: several Host headers, user information, characters that no host has. A target in
 * absolute form is worth more than the header (RFC 9112 section 3.2.2).
 * @throws HobError `invalid_request`
 */
export function hostTarget(request: IncomingMessage, domain: string): HostTarget {
  const [header = "", ...more] = hostHeaders(request);
  const authority = ABSOLUTE_FORM.exec(request.url ?? "")?.[1] ?? header;
  if (more.length > 0 || !AUTHORITY.test(authority) || !AUTHORITY.test(header)) {
    throw new HobError("invalid_request", "read request: the host is malformed", { hint: "send one Host header, HOST or HOST:PORT" });
  }
  const host = authority
    .replace(/:[0-9]*$/, "")
    .replace(/\.$/, "")
    .toLowerCase();
  if (!host.endsWith(`.${domain}`)) return { kind: "api" };
  const name = host.slice(0, -domain.length - 1);
  return SPRITE_NAME_PATTERN.test(name) ? { kind: "url", name, authority } : { kind: "nowhere" };
}

function hostHeaders({ rawHeaders }: IncomingMessage): string[] {
  const values: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) if (rawHeaders[i]?.toLowerCase() === "host") values.push(rawHeaders[i + 1] ?? "");
  return values;
}

/**
 * The target for the application, in origin form and otherwise as it was sent: what it means is the application's to say.
 * @throws HobError `invalid_request` | `payload_too_large`
 */
export function applicationTarget(raw: string): string {
  if (raw.length > LIMITS.requestTargetBytes) {
    throw new HobError("payload_too_large", `read request: the target exceeds ${LIMITS.requestTargetBytes} bytes`);
  }
  const target = raw.replace(ABSOLUTE_FORM, "");
  if (target === "*") return target;
  const path = target === "" || target.startsWith("?") ? `/${target}` : target;
  if (!path.startsWith("/") || !/^[\x21-\x7e\x80-\xff]*$/.test(path) || path.includes("#")) {
    throw new HobError("invalid_request", "read request: the target is malformed", { hint: "send an absolute path" });
  }
  return path;
}
