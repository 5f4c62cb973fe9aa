import { HobError, SPRITE_NAME_PATTERN } from "@hob/protocol";

/** A continuation token is opaque to clients; inside it is the last name of the page before, so it never expires. */
const VERSION = "1";

/** The token that continues a list after this name. */
export const encodeContinuation = (lastName: string): string => Buffer.from(`${VERSION}:${lastName}`).toString("base64url");

/**
 * The name after which the list continues.
 * @throws HobError `invalid_request` for anything that encodeContinuation did not make
 */
export function decodeContinuation(token: string): string {
  const text = Buffer.from(token, "base64url").toString("utf8");
  const name = text.slice(VERSION.length + 1);
  if (!SPRITE_NAME_PATTERN.test(name) || encodeContinuation(name) !== token) {
    throw new HobError("invalid_request", "list sprites: the continuation_token is not one of this server", {
      hint: "pass next_continuation_token of the page before, unchanged",
    });
  }
  return name;
}
