import type { Dirent } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isObjectKey } from "./object-key.ts";

/**
 * Keys below `root` that start with `prefix` and come after `after`, in the order of their bytes. A folder is entered only
 * when it can hold such a key, and read when it is its turn.
 */
export async function* keysInOrder(root: string, prefix: string, after: string, folder = ""): AsyncGenerator<string> {
  const entries = await readFolder(join(root, folder));
  // A folder sorts as its keys do: with the slash.
  const names = entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name)).sort(compareBytes);
  for (const name of names) {
    const path = folder + name;
    const mayMatch = path.startsWith(prefix) || (name.endsWith("/") && prefix.startsWith(path));
    const mayFollow = path > after || (name.endsWith("/") && after.startsWith(path));
    if (!mayMatch || !mayFollow || !isObjectKey(name.endsWith("/") ? path.slice(0, -1) : path)) continue;
    if (name.endsWith("/")) yield* keysInOrder(root, prefix, after, path);
    else yield path;
  }
}

/** Keys are ASCII: the order of their UTF-16 units is that of their bytes. */
const compareBytes = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

async function readFolder(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    // Removed with its last object, or never made.
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}
