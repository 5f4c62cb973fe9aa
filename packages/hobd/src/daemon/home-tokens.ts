import type { TokenRegistry } from "../registry/registry.ts";
import { openSqliteRegistry } from "../registry/sqlite-registry.ts";
import { type CreatedToken, createToken, listTokens, revokeToken, type TokenInfo } from "../tokens/tokens.ts";
import { homeLayout, prepareHome } from "./home.ts";

/*
 * Tokens of a home directory, for the CLI: with and without a daemon running there. All throw HobError
 * `home_unusable` | `registry_unusable` | `no_space` when the directory cannot be used.
 */

/** See createToken. */
export const createHomeToken = (home: string, description: string): Promise<CreatedToken> =>
  withTokens(home, (tokens) => createToken(tokens, description));

/** See listTokens. */
export const listHomeTokens = (home: string): Promise<TokenInfo[]> => withTokens(home, listTokens);

/** See revokeToken. */
export const revokeHomeToken = (home: string, id: string): Promise<void> => withTokens(home, (tokens) => revokeToken(tokens, id));

async function withTokens<T>(home: string, body: (tokens: TokenRegistry) => Promise<T>): Promise<T> {
  const layout = homeLayout(home);
  prepareHome(layout);
  await using registry = openSqliteRegistry(layout.database);
  return await body(registry.tokens);
}
