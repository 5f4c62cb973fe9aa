import { HobError } from "@hob/protocol/errors.ts";

/** One side of a copy: a path of this machine, or of a sprite. */
export type Location = { kind: "local"; path: string } | { kind: "standard" } | { kind: "sprite"; name: string; path: string };

/**
 * `NAME:PATH` is a path of a sprite, `-` standard input or output, all else a path of this machine: also `./a:b` and `/a:b`.
 * @throws HobError `usage`
 */
export function parseLocation(text: string): Location {
  if (text === "-") return { kind: "standard" };
  const match = /^([a-z0-9](?:[a-z0-9-]*[a-z0-9])?):(.*)$/s.exec(text);
  if (match === null) {
    if (text === "") throw new HobError("usage", "an empty path", { hint: "a path, or NAME:PATH for a sprite's" });
    return { kind: "local", path: text };
  }
  const [, name = "", path = ""] = match;
  return { kind: "sprite", name, path: path === "" ? "." : path };
}
