import type { IncomingMessage } from "node:http";
import { HobError } from "@hob/protocol";
import type { SpriteRecord, SpriteRegistry } from "../registry/registry.ts";
import type { Authenticator } from "../tokens/authenticator.ts";
import { looksLikeToken } from "../tokens/token-format.ts";
import { ownCookies } from "./cookies.ts";
import type { SignIn } from "./sign-in.ts";

export interface AccessParts {
  sprites: SpriteRegistry;
  authenticator: Authenticator;
  signIn: SignIn;
}

/** Decides who may see a sprite's URL. */
export class UrlAccess {
  readonly #parts: AccessParts;

  constructor(parts: AccessParts) {
    this.#parts = parts;
  }

  /**
   * The sprite, when the request may pass. To a stranger a private sprite and one that does not exist look the same.
   * @throws HobError `unauthorized` | `not_found`
   */
  async admit(request: IncomingMessage, name: string, isUpgrade: boolean): Promise<SpriteRecord> {
    const found = await this.#parts.sprites.findByName(name);
    const record = found?.state === "ready" ? found : undefined;
    if (record?.urlSettings.auth === "public") return record;
    const permitted = (await this.#hasToken(request)) || (record !== undefined && (await this.#hasCookie(request, record, isUpgrade)));
    if (!permitted) throw unauthorized(name);
    if (record === undefined) throw new HobError("not_found", `find sprite ${name}: no sprite of this name`);
    return record;
  }

  async #hasToken({ headers }: IncomingMessage): Promise<boolean> {
    if (!looksLikeToken(headers.authorization)) return false;
    await this.#parts.authenticator.authenticate(headers.authorization);
    return true;
  }

  async #hasCookie(request: IncomingMessage, record: SpriteRecord, isUpgrade: boolean): Promise<boolean> {
    for (const value of ownCookies(request.headers.cookie)) {
      const signedIn = this.#parts.signIn.verify(value, record.id);
      if (signedIn === undefined || !(await this.#parts.authenticator.isActive(signedIn.tokenId))) continue;
      if (!isOwnPage(request, isUpgrade)) {
        throw new HobError("unauthorized", `open the URL of sprite ${record.name}: the request comes from a page of another host`, {
          hint: "a page of another host may link here, but not act with your sign-in",
        });
      }
      return true;
    }
    return false;
  }
}

/**
 * Whether a request with a cookie was made by the sprite's own page, or by a person who followed a link. All sprites are
 * one site to a browser, so SameSite does not keep one sprite's page from making requests to another with the cookie.
 * Fetch Metadata says who asks; where a browser leaves it out, Origin does, on everything that may have an effect.
 */
export function isOwnPage({ method, headers }: IncomingMessage, isUpgrade: boolean): boolean {
  const site = headers["sec-fetch-site"];
  if (site === "same-origin" || site === "none") return true;
  const isSafe = !isUpgrade && (method === "GET" || method === "HEAD");
  if (site !== undefined) return isSafe && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document";
  if (headers.origin === undefined) return true;
  // URL.canParse says yes to very long hosts that the constructor refuses.
  const origin = URL.parse(headers.origin);
  return origin !== null && URL.parse(`${origin.protocol}//${headers.host}`)?.host === origin.host;
}

const unauthorized = (name: string): HobError =>
  new HobError("unauthorized", `open the URL of sprite ${name}: it is private, and you are not signed in`, {
    hint: `'hob url ${name} --open' signs a browser in; programs send 'Authorization: Bearer TOKEN'`,
  });
