import { randomBytes } from "node:crypto";
import { existsSync, renameSync, statSync, utimesSync } from "node:fs";
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
  if (!existsSync(root)) return false;
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
 * Removes an entry unless it was marked after `unusedSinceMs`.
 * @param unusedSinceMs Unix milliseconds
 * @returns whether it was removed
 */
export const removeUnused = (root: string, name: string, unusedSinceMs: number): Promise<boolean> =>
  removeIf(root, name, (path) => statSync(path).mtimeMs <= unusedSinceMs);

/**
 * Removes an entry if `isToGo` says so, which nobody changes meanwhile. It disappears at once and whole, so that nobody finds half of it;
 * what a killed removal leaves begins with `.removed-`.
 * @returns whether it was removed
 */
export async function removeIf(root: string, name: string, isToGo: (path: string) => boolean): Promise<boolean> {
  const doomed = doomedPath(root, name);
  const moved = locked(root, () => moveAway(join(root, name), doomed, isToGo));
  if (moved) await rm(doomed, { recursive: true, force: true });
  return moved;
}

/**
 * Gives a finished folder its name, in place of what `isToGo` says of it. For all who mark entries before they use them there is the one or the other
 * at any time: rename(2) alone replaces no folder that holds something.
 * @returns false: what is there stays, and so does the finished folder under its own name
 */
export async function putInPlace(root: string, name: string, finished: string, isToGo: (path: string) => boolean): Promise<boolean> {
  const [place, doomed] = [join(root, name), doomedPath(root, name)];
  const isPut = locked(root, () => {
    if (existsSync(place) && !moveAway(place, doomed, isToGo)) return false;
    renameSync(finished, place);
    return true;
  });
  await rm(doomed, { recursive: true, force: true });
  return isPut;
}

const doomedPath = (root: string, name: string): string => join(root, `${REMOVED}${process.pid}-${randomBytes(4).toString("hex")}-${name}`);

function moveAway(place: string, doomed: string, isToGo: (path: string) => boolean): boolean {
  if (!existsSync(place) || !isToGo(place)) return false;
  renameSync(place, doomed);
  return true;
}

/**
 * Marks, removals and replacements in one folder exclude each other over all processes of the machine. Node has no flock(2), SQLite locks with fcntl(2),
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
