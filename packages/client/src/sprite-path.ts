import { HobError } from "@hob/protocol/errors.ts";

/** Path of a sprite's resource. Names are checked by the server; here only what would name another path is refused. */
export function spritePath(name: string, resource?: string): string {
  if (name === "" || name === "." || name === "..") {
    throw new HobError("invalid_name", `'${name}' is not a sprite name`, {
      hint: "1 to 63 characters a-z, 0-9 and '-', beginning and ending with a letter or digit",
    });
  }
  return `/v1/sprites/${encodeURIComponent(name)}${resource === undefined ? "" : `/${resource}`}`;
}
