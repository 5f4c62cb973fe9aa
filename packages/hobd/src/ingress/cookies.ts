/**
 * The cookie of a signed-in browser. It is of one host only: no Domain attribute, so other sprites' pages neither get it
 * nor can read it. Behind TLS its name also forbids them to set one over it (RFC 6265bis section 4.1.3.2).
 */
export const cookieName = (isSecure: boolean): string => (isSecure ? "__Host-hob_url" : "hob_url");

/** Only the beginning of a pair is matched: a pattern that also looked for the end of the value would try every space in it. */
const OWN_COOKIE = /^\s*(?:__Host-)?hob_url\s*=/;

/** Values of our cookie in a Cookie header, of which there may be several: a page below the same domain can add one. */
export function ownCookies(header: string | undefined): string[] {
  const own = (header ?? "").split(";").filter((pair) => OWN_COOKIE.test(pair));
  return own.map((pair) => pair.slice(pair.indexOf("=") + 1).trim());
}

/** A Cookie header without ours, the rest as it was; undefined when nothing is left. */
export function foreignCookies(header: string): string | undefined {
  const kept = header.split(";").filter((pair) => pair.trim() !== "" && !OWN_COOKIE.test(pair));
  return kept.length === 0 ? undefined : kept.join(";").trim();
}

/** Lax: a link from elsewhere finds the browser signed in, a request that a foreign page makes does not. */
export function setCookie(value: string, maxAgeSeconds: number, isSecure: boolean): string {
  const attributes = [`Max-Age=${maxAgeSeconds}`, "Path=/", "HttpOnly", "SameSite=Lax", ...(isSecure ? ["Secure"] : [])];
  return `${cookieName(isSecure)}=${value}; ${attributes.join("; ")}`;
}
