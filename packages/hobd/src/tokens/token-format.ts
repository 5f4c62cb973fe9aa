import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** The one organization of a Hob installation: first part of every token, and `organization` of every sprite. */
export const ORGANIZATION = "hob";

/** Bytes of randomness in a token's secret. */
const SECRET_BYTES = 32;

/** A token's three parts. On the wire it is `hob/<id>/<secret>`, the shape that the SDKs' documentation shows. */
export interface TokenParts {
  /** 16 hexadecimal digits; public: it names the token in lists */
  id: string;
  /** 32 random bytes, base64url: 43 characters */
  secret: string;
}

const TOKEN_PATTERN = new RegExp(`^${ORGANIZATION}/([0-9a-f]{16})/([A-Za-z0-9_-]{43})$`);

/** A new token from the kernel's random source. */
export const generateToken = (): TokenParts => ({
  id: randomBytes(8).toString("hex"),
  secret: randomBytes(SECRET_BYTES).toString("base64url"),
});

export const formatToken = ({ id, secret }: TokenParts): string => `${ORGANIZATION}/${id}/${secret}`;

/** The parts of a token, or undefined when the text does not have a token's shape. */
export function parseToken(text: string): TokenParts | undefined {
  const [, id, secret] = TOKEN_PATTERN.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

/** SHA-256, hex. A slow hash would add nothing: the secret holds 256 bits of randomness, so it cannot be guessed. */
export const hashSecret = (secret: string): string => createHash("sha256").update(secret).digest("hex");

/** Compares a secret with a stored hash in a time that does not depend on where they differ. */
export function secretMatches(secret: string, storedHash: string): boolean {
  const stored = Buffer.from(storedHash, "hex");
  const given = Buffer.from(hashSecret(secret), "hex");
  return stored.length === given.length && timingSafeEqual(stored, given);
}

/** Whether an Authorization header carries what has the shape of a token of Hob: nobody else's business, valid or not. */
export const looksLikeToken = (authorization: string | undefined): boolean =>
  parseToken(/^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1] ?? "") !== undefined;
