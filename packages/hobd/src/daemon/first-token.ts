import type { Logger } from "pino";
import type { TokenRegistry } from "../registry/registry.ts";
import { parseToken, secretMatches } from "../tokens/token-format.ts";
import { createToken } from "../tokens/tokens.ts";
import { type HomeLayout, readTokenFile, writeTokenFile } from "./home.ts";

/**
 * The token of the CLI on this machine. Made, and written to HOME/token, when that file is not there. A token in the
 * file that is not valid any more was revoked on purpose: it is left as it is, and undefined returned.
 * @throws HobError `home_unusable` | `no_space`
 */
export async function ensureFirstToken(
  home: HomeLayout,
  tokens: TokenRegistry,
  now: () => number,
  log: Logger,
): Promise<string | undefined> {
  const kept = readTokenFile(home);
  if (kept === undefined) {
    const { token, id } = await createToken(tokens, "first token, made by the daemon", now);
    writeTokenFile(home, token);
    log.info({ tokenId: id }, "made the first token");
    return token;
  }
  const parts = parseToken(kept);
  const record = parts === undefined ? undefined : await tokens.findToken(parts.id);
  if (parts !== undefined && record !== undefined && record.revokedAt === null && secretMatches(parts.secret, record.secretHash))
    return kept;
  log.warn("the token in the home directory is not valid; remove the file to have a new one made at the next start");
  return undefined;
}
