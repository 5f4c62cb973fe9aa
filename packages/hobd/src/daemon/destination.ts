import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol";
import { parseTarget, type Target } from "../front-door/target.ts";
import { hostTarget } from "../ingress/host.ts";
import type { UrlTarget } from "../ingress/ingress.ts";

/** Who answers a request: the API, a sprite's pilot, or what runs behind a sprite's URL. */
export type Destination = Target | UrlTarget;

/**
 * Host first, then path: no name below the domain leads to the API, and no other name to a sprite's URL.
 * @throws HobError `invalid_request` | `payload_too_large` | `not_found` for a name that no sprite can have
 */
export function destinationOf(request: IncomingMessage, domain: string): Destination {
  const host = hostTarget(request, domain);
  if (host.kind === "url") return host;
  if (host.kind === "api") return parseTarget(request.url ?? "");
  throw new HobError("not_found", `find sprite: no sprite answers at this name below ${domain}`, {
    hint: `a sprite's URL is NAME.${domain}`,
  });
}
