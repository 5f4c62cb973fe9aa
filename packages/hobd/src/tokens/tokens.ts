import { HobError } from "@hob/protocol";
import type { TokenRecord, TokenRegistry } from "../registry/registry.ts";
import { formatToken, generateToken, hashSecret } from "./token-format.ts";

const DESCRIPTION_CHARACTERS_MAX = 200;

/** A token as lists show it: without the secret, which nobody can read again. Times are Unix milliseconds. */
export type TokenInfo = Omit<TokenRecord, "secretHash">;

/** A token that was just made: the only time its text is known. */
export interface CreatedToken extends TokenInfo {
  /** `hob/<id>/<secret>`, what a client sends as its bearer token */
  token: string;
}

/**
 * Makes a token and stores its hash.
 * @param description for people, 1 to 200 characters
 * @throws HobError `invalid_request`
 */
export async function createToken(tokens: TokenRegistry, description: string, now: () => number = Date.now): Promise<CreatedToken> {
  const text = description.trim();
  if (text === "" || text.length > DESCRIPTION_CHARACTERS_MAX) {
    throw new HobError("invalid_request", `create token: the description must have 1 to ${DESCRIPTION_CHARACTERS_MAX} characters`);
  }
  const parts = generateToken();
  const info: TokenInfo = { id: parts.id, description: text, createdAt: now(), lastUsedAt: null, revokedAt: null };
  await tokens.insertToken({ ...info, secretHash: hashSecret(parts.secret) });
  return { ...info, token: formatToken(parts) };
}

/** Every token, oldest first, revoked ones included. */
export async function listTokens(tokens: TokenRegistry): Promise<TokenInfo[]> {
  return (await tokens.listTokens()).map(({ secretHash: _, ...info }) => info);
}

/**
 * Revokes a token: the next request that carries it is refused, also by a daemon that is running.
 * @throws HobError `not_found` when there is no such token, or it is revoked already
 */
export async function revokeToken(tokens: TokenRegistry, id: string, now: () => number = Date.now): Promise<void> {
  if (await tokens.revokeToken(id, now())) return;
  throw new HobError("not_found", `revoke token ${id}: no such token, or it is already revoked`, {
    hint: "'hob token list' shows the ids",
  });
}
