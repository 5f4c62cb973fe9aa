import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { HobError } from "@hob/protocol/errors.ts";

/** The file that names the sprite of a folder and all below it: `{"sprite":"NAME"}`. */
export const SPRITE_FILE = ".hob";

export interface FoundSprite {
  sprite: string;
  /** of the file that names it */
  path: string;
}

/**
 * The sprite that the nearest file names, in this folder or one above it.
 * @throws HobError `invalid_config` when the file says something else
 */
export function findSpriteFile(directory: string): FoundSprite | undefined {
  for (let folder = directory; ; folder = dirname(folder)) {
    const path = join(folder, SPRITE_FILE);
    const text = readIfFile(path);
    if (text !== undefined) return { sprite: parseSpriteFile(text, path), path };
    if (folder === dirname(folder)) return undefined;
  }
}

/** @returns the path written */
export function writeSpriteFile(directory: string, sprite: string): string {
  const path = join(directory, SPRITE_FILE);
  fileOperation("write", path, () => writeFileSync(path, `${JSON.stringify({ sprite })}\n`));
  return path;
}

export function removeSpriteFile(path: string): void {
  fileOperation("remove", path, () => rmSync(path));
}

function parseSpriteFile(text: string, path: string): string {
  try {
    const { sprite } = JSON.parse(text) as { sprite?: unknown };
    if (typeof sprite === "string" && sprite !== "") return sprite;
  } catch {
    // Reported below, like valid JSON that names no sprite.
  }
  throw new HobError("invalid_config", `read ${path}: it names no sprite`, { hint: "'hob use NAME' writes it anew" });
}

/** A folder of this name is something else: Hob's home may be called so. */
function readIfFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EISDIR" || code === "ENOTDIR" || code === "EACCES") return undefined;
    throw new HobError("invalid_config", `read ${path}: ${code}`, { cause: thrown });
  }
}

function fileOperation(what: string, path: string, work: () => void): void {
  try {
    work();
  } catch (thrown) {
    throw new HobError("invalid_config", `${what} ${path}: ${(thrown as NodeJS.ErrnoException).code}`, { cause: thrown });
  }
}
