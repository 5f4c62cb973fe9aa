import { existsSync, renameSync, rmSync, statSync, utimesSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { HobError } from "@hob/protocol";

/** What holds the lock does a few system calls. */
const LOCK_TIMEOUT_MS = 5_000;

/** Beginning of the names of entries that are being removed. */
export const REMOVED = ".removed-";

/**
 * Sets the time of an entry of the cache: whoever is about to use it does this first, and then nobody takes it for unused.
 * @returns false when it is not there
 */
export function markUsed(root: string, name: string): boolean {
  if (!existsSync(join(root, name))) return false;
  return locked(root, () => {
    try {
      utimesSync(join(root, name), new Date(), new Date());
      return true;
    } catch (error) {
      // Where it cannot be marked it cannot be removed by this user either.
      return (error as NodeJS.ErrnoException).code !== "ENOENT";
    }
  });
}

/**
 * Removes an entry unless it was marked after `unusedSinceMs`. It disappears at once and whole, so that nobody finds half of it;
 * what a killed removal leaves begins with `.removed-`.
 * @param unusedSinceMs Unix milliseconds
 * @returns whether it was removed
 */
export async function removeUnused(root: string, name: string, unusedSinceMs: number): Promise<boolean> {
  const doomed = join(root, `${REMOVED}${process.pid}-${name}`);
  const moved = locked(root, () => {
    const found = statSync(join(root, name), { throwIfNoEntry: false });
    if (found === undefined || found.mtimeMs > unusedSinceMs) return false;
    rmSync(doomed, { recursive: true, force: true });
    renameSync(join(root, name), doomed);
    return true;
  });
  if (moved) await rm(doomed, { recursive: true, force: true });
  return moved;
}

/**
 * Marks and removals of one folder exclude each other over all processes of the machine. Node has no flock(2), SQLite locks with fcntl(2),
 * which the kernel drops with the process. The work is synchronous, so a process is never in its own way either.
 */
function locked<T>(root: string, work: () => T): T {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(`${root}.lock`, { timeout: LOCK_TIMEOUT_MS });
    // The journal in memory: no second file to clean up after a crash.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (cause) {
    database?.close();
    throw new HobError("home_unusable", `lock ${root}: ${(cause as Error).message}`, {
      hint: "check owner and permissions of the cache, or choose another folder with HOB_CACHE",
      cause,
    });
  }
  try {
    return work();
  } finally {
    database.close();
  }
}
