import { lstat, readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { bytesOnDisk } from "@hob/images";

/** What Node.js keeps of the code that it has compiled, one folder for each of its versions: `CACHE/compiled/VERSION/FILE`. */
export const compiledFolder = (cacheDir: string): string => join(cacheDir, "compiled");

/** Of one version of Node.js. */
export interface CompiledCode {
  /** on the disk */
  bytes: number;
  /** Unix milliseconds; 0 when there is nothing */
  lastUsedMs: number;
}

/**
 * When a file was read or written last. File systems note reads once a day, or never (mount(8), relatime and noatime): then code that is
 * in use goes after its time as well, and is compiled once more.
 */
const lastUseOf = ({ atimeMs, mtimeMs }: { atimeMs: number; mtimeMs: number }): number => Math.max(atimeMs, mtimeMs);

export async function surveyCompiled(directory: string): Promise<CompiledCode> {
  let lastUsedMs = 0;
  for await (const { stats } of filesOf(directory)) lastUsedMs = Math.max(lastUsedMs, lastUseOf(stats));
  return { bytes: await bytesOnDisk(directory), lastUsedMs };
}

/**
 * Removes what was not used after `unusedSinceMs`, file by file: a folder is used by everything that runs on one version, also where what
 * it was compiled from is gone. Whoever does not find a file compiles it.
 * @returns what was removed, or would be
 */
export async function pruneCompiled(directory: string, unusedSinceMs: number, dryRun: boolean): Promise<CompiledCode> {
  let [bytes, lastUsedMs] = [0, 0];
  for await (const { path, stats } of filesOf(directory)) {
    const usedMs = lastUseOf(stats);
    if (usedMs > unusedSinceMs) continue;
    const size = await bytesOnDisk(path);
    if (!dryRun && !(await isUnlinked(path))) continue;
    bytes += size;
    lastUsedMs = Math.max(lastUsedMs, usedMs);
  }
  // Only when it is empty.
  if (!dryRun && bytes > 0) await rmdir(directory).catch(() => {});
  return { bytes, lastUsedMs };
}

async function* filesOf(directory: string) {
  for (const name of await readdir(directory).catch(() => [])) {
    const path = join(directory, name);
    const stats = await lstat(path).catch(() => undefined);
    if (stats?.isFile()) yield { path, stats };
  }
}

const isUnlinked = (path: string): Promise<boolean> =>
  unlink(path).then(
    () => true,
    () => false,
  );
