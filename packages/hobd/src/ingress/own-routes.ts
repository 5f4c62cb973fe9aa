import type { IncomingMessage, ServerResponse } from "node:http";
import { HobError } from "@hob/protocol";
import type { SpriteRegistry } from "../registry/registry.ts";
import { setCookie } from "./cookies.ts";
import { isSecure } from "./headers.ts";
import type { SignIn } from "./sign-in.ts";

/** Paths below it are Hob's own on every sprite's URL, and never reach the application. */
const PREFIX = "/.hob/";

export interface OwnRoute {
  name: string;
  query: URLSearchParams;
}

/** The route that a target names; undefined when it is the application's. */
export function ownRoute(target: string): OwnRoute | undefined {
  if (!target.startsWith(PREFIX)) return undefined;
  const at = target.indexOf("?");
  return {
    name: target.slice(PREFIX.length, at < 0 ? undefined : at),
    query: new URLSearchParams(at < 0 ? "" : target.slice(at + 1)),
  };
}

export const signInUrl = (spriteUrl: string, ticket: string): string => `${spriteUrl}${PREFIX}sign-in?ticket=${ticket}`;

/**
 * | route | does |
 * | --- | --- |
 * | GET /.hob/sign-in?ticket=… | takes the ticket, sets the cookie, leads to / |
 * | GET /.hob/sign-out | forgets the cookie |
 */
export class OwnRoutes {
  readonly #sprites: SpriteRegistry;
  readonly #signIn: SignIn;

  constructor(sprites: SpriteRegistry, signIn: SignIn) {
    this.#sprites = sprites;
    this.#signIn = signIn;
  }

  /** @throws HobError `not_found` | `method_not_allowed` | `unauthorized` */
  async serve(request: IncomingMessage, response: ServerResponse, sprite: string, route: OwnRoute): Promise<void> {
    if (route.name !== "sign-in" && route.name !== "sign-out") {
      throw new HobError("not_found", `${PREFIX}: no such page of Hob`, { hint: `paths below ${PREFIX} never reach the sprite` });
    }
    // HEAD is what looks a link over before a person opens it: it must not use the ticket up.
    if (request.method !== "GET") throw new HobError("method_not_allowed", `${PREFIX}${route.name}: use GET`);
    const secure = isSecure(request);
    if (route.name === "sign-out") return leadHome(response, setCookie("", 0, secure));
    const record = await this.#sprites.findByName(sprite);
    const { value, maxAgeSeconds } = this.#signIn.redeem(route.query.get("ticket") ?? "", record?.state === "ready" ? record.id : "");
    leadHome(response, setCookie(value, maxAgeSeconds, secure));
  }
}

/** The ticket is in the address of the page that leads on: it must not be sent on as the referrer, nor be kept. */
function leadHome(response: ServerResponse, cookie: string): void {
  response.writeHead(303, {
    Location: "/",
    "Set-Cookie": cookie,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Length": "0",
  });
  response.end();
}
