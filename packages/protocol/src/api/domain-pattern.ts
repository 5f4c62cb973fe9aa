import { domainToASCII } from "node:url";

/** RFC 1035 section 2.3.4, without the dot of the root. */
const NAME_CHARACTERS_MAX = 253;

/** A label as resolvers meet it: RFC 1123 section 2.1, and the underscore of service names (RFC 8552). */
const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

export type DomainPattern = { ok: true; pattern: string } | { ok: false; reason: string };

/**
 * Reads the `domain` of a network rule: `example.com`, `*.example.com` or `*`. The result is in lower case, without the
 * root's dot, and other scripts are punycode (UTS #46): what a resolver compares.
 */
export function parseDomainPattern(text: string): DomainPattern {
  if (text === "*") return { ok: true, pattern: "*" };
  const wildcard = text.startsWith("*.");
  const name = asciiName((wildcard ? text.slice(2) : text).replace(/\.$/, ""));
  if (name === undefined) return { ok: false, reason: "not a domain name" };
  if (name.length > NAME_CHARACTERS_MAX) return { ok: false, reason: `longer than ${NAME_CHARACTERS_MAX} characters` };
  const labels = name.split(".");
  if (labels.some((label) => label.includes("*"))) return { ok: false, reason: "'*' may only stand alone or before the first dot" };
  if (!labels.every((label) => LABEL.test(label))) return { ok: false, reason: "not a domain name" };
  // A name whose last label is a number is an IPv4 address to the WHATWG URL standard and to many programs.
  if (/^\d+$/.test(labels.at(-1) ?? ""))
    return { ok: false, reason: "an address, not a domain name: addresses are reached by the names that resolve to them" };
  return { ok: true, pattern: wildcard ? `*.${name}` : name };
}

function asciiName(text: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly ASCII is meant
  if (/^[\x00-\x7f]*$/.test(text)) return text.toLowerCase();
  // Percent signs would be decoded by the conversion.
  const ascii = text.includes("%") ? "" : domainToASCII(text);
  return ascii === "" ? undefined : ascii;
}
