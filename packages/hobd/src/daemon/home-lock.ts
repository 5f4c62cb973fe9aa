import { DatabaseSync } from "node:sqlite";
import { HobError } from "@hob/protocol";
import { type HomeLayout, readDaemonInfo } from "./home.ts";

/** Primary result code SQLITE_BUSY, https://www.sqlite.org/rescode.html */
const SQLITE_BUSY = 5;

/**
 * Makes this process the only daemon on a home directory, until disposed or until the process ends in whatever way.
 *
 * Node has no flock(2). SQLite locks its files with fcntl(2), and the kernel drops those locks with the process, so a
 * lock left by kill -9 needs no cleaning up and a pid that was used again cannot mislead. The lock is on a file of
 * its own: `hob token` opens the registry while the daemon runs.
 *
 * Invariant: nothing else in this process may open the lock file. Closing any descriptor of a file drops all fcntl
 * locks that the process holds on it.
 * @throws HobError `home_locked` with the other's pid | `home_unusable`
 */
export function lockHome(layout: HomeLayout): Disposable {
  if (heldHere.has(layout.lock)) throw lockedError(layout);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(layout.lock, { timeout: 0 });
    // The journal in memory: no second file to clean up after a crash.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (error) {
    database?.close();
    if ((((error as { errcode?: number }).errcode ?? 0) & 0xff) === SQLITE_BUSY) throw lockedError(layout);
    throw new HobError("home_unusable", `lock ${layout.lock}: ${(error as Error).message}`, {
      hint: "check owner and permissions of the state directory, and that it is on a local file system",
      cause: error,
    });
  }
  const held = database;
  heldHere.add(layout.lock);
  return {
    [Symbol.dispose]: () => {
      if (!heldHere.delete(layout.lock)) return;
      held.close();
    },
  };
}

/** fcntl locks do not exclude a process from itself. */
const heldHere = new Set<string>();

function lockedError(layout: HomeLayout): HobError {
  const pid = readDaemonInfo(layout)?.pid;
  const who = pid === undefined ? "another daemon" : `the daemon with pid ${pid}`;
  return new HobError("home_locked", `lock ${layout.directory}: ${who} uses this directory`, {
    hint: "stop that daemon, or choose another directory with --home or HOB_HOME",
    ...(pid === undefined ? {} : { details: { pid } }),
  });
}
