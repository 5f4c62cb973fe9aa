import { randomBytes, randomUUID } from "node:crypto";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { HobError } from "@hob/protocol";
import { z } from "zod";

const URL_KEY_BYTES = 32;

/**
 * What is in a home directory, all of it readable by its owner only:
 *
 * | path | holds |
 * | --- | --- |
 * | hob.db (-wal, -shm) | the registry: sprites, idempotency keys, tokens (SQLite) |
 * | token | the first API token, for the CLI of the same user |
 * | url.key | signs the cookies of browsers that are signed in at sprites' URLs |
 * | lock | held by the daemon that uses this directory; see home-lock.ts |
 * | hobd.json | where that daemon is: pid, url, version; gone after a clean stop |
 * | hobd.log, hobd.log.1 | its log, and the part before; bounded |
 * | store/ | the object store, unless another one is configured |
 * | store.json | the object store that this home has used, so that one that is away is not taken for a new one |
 * | host-id | names this home as the owner of sprites in a store |
 * | log-cursors/ID.json | how far the logs of one sprite's services have been shipped |
 * | sprites/ID/ | VM files of one sprite; owned by the runtime |
 */
export interface HomeLayout {
  readonly directory: string;
  readonly database: string;
  readonly token: string;
  readonly urlKey: string;
  readonly lock: string;
  readonly info: string;
  readonly log: string;
  readonly logCursors: string;
  readonly sprites: string;
  readonly store: string;
  readonly usedStore: string;
  readonly hostId: string;
}

export const homeLayout = (directory: string): HomeLayout => ({
  directory,
  database: join(directory, "hob.db"),
  token: join(directory, "token"),
  urlKey: join(directory, "url.key"),
  lock: join(directory, "lock"),
  info: join(directory, "hobd.json"),
  log: join(directory, "hobd.log"),
  logCursors: join(directory, "log-cursors"),
  sprites: join(directory, "sprites"),
  store: join(directory, "store"),
  usedStore: join(directory, "store.json"),
  hostId: join(directory, "host-id"),
});

/** Contents of hobd.json; written when the daemon has its address. */
const daemonInfo = z.object({
  pid: z.number().int().positive(),
  url: z.string(),
  version: z.string(),
  started_at: z.string(),
});
export type DaemonInfo = z.infer<typeof daemonInfo>;

/** Makes the directories that are missing, mode 0700. @throws HobError `home_unusable` | `no_space` */
export function prepareHome(layout: HomeLayout): void {
  homeOperation("create", layout.directory, () => makeDirectories(layout.directory));
  homeOperation("create", layout.sprites, () => makeDirectories(layout.sprites));
}

/**
 * Makes a directory and its missing parents. Not `mkdirSync` with `recursive`: it takes ENOENT for a missing parent
 * and tries for ever where a file system answers so for a parent that is there, as proc(5) does.
 */
function makeDirectories(path: string, parentsLeft = true): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && statSync(path).isDirectory()) return;
    if (code !== "ENOENT" || !parentsLeft || dirname(path) === path) throw error;
    makeDirectories(dirname(path));
    makeDirectories(path, false);
  }
}

/** What the daemon of this home wrote about itself; undefined when there is nothing readable. It may have been killed since. */
export function readDaemonInfo(layout: HomeLayout): DaemonInfo | undefined {
  try {
    return daemonInfo.parse(JSON.parse(readFileSync(layout.info, "utf8")));
  } catch {
    return undefined;
  }
}

export const writeDaemonInfo = (layout: HomeLayout, info: DaemonInfo): void => writeFileAtomic(layout.info, `${JSON.stringify(info)}\n`);

export const removeDaemonInfo = (layout: HomeLayout): void =>
  homeOperation("remove", layout.info, () => rmSync(layout.info, { force: true }));

const usedStore = z.object({ store: z.string() });

/** Whether this home has used the object store of this description before, and no other since. */
export function hasUsedStore(layout: HomeLayout, description: string): boolean {
  try {
    return usedStore.parse(JSON.parse(readFileSync(layout.usedStore, "utf8"))).store === description;
  } catch {
    return false;
  }
}

/** @throws HobError `home_unusable` | `no_space` */
export function noteUsedStore(layout: HomeLayout, description: string): void {
  if (!hasUsedStore(layout, description)) writeFileAtomic(layout.usedStore, `${JSON.stringify({ store: description })}\n`);
}

/** The token kept for the CLI, or undefined when the file is not there. @throws HobError `home_unusable` */
export function readTokenFile(layout: HomeLayout): string | undefined {
  try {
    return readFileSync(layout.token, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw homeError("read", layout.token, error as NodeJS.ErrnoException);
  }
}

/** Names this home in the object store; made at the first start. @throws HobError `home_unusable` | `no_space` */
export function ensureHostId(layout: HomeLayout): string {
  try {
    return readFileSync(layout.hostId, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw homeError("read", layout.hostId, error as NodeJS.ErrnoException);
  }
  const id = `host-${randomUUID()}`;
  writeFileAtomic(layout.hostId, `${id}\n`);
  return id;
}

export const writeTokenFile = (layout: HomeLayout, token: string): void => writeFileAtomic(layout.token, `${token}\n`);

/** 32 random bytes, the same at every start; made at the first. Without the file every browser has to sign in again. */
export function ensureUrlKey(layout: HomeLayout): Buffer {
  const kept = homeOperation("read", layout.urlKey, () =>
    existsSync(layout.urlKey) ? Buffer.from(readFileSync(layout.urlKey, "utf8").trim(), "hex") : undefined,
  );
  if (kept?.length === URL_KEY_BYTES) return kept;
  const key = randomBytes(URL_KEY_BYTES);
  writeFileAtomic(layout.urlKey, `${key.toString("hex")}\n`);
  return key;
}

/** Whole or not at all, also when the machine stops in the middle: temporary file, fsync, rename, fsync of the directory. */
function writeFileAtomic(path: string, text: string): void {
  homeOperation("write", path, () => {
    const temporary = `${path}.tmp`;
    withFile(temporary, "w", (fd) => {
      writeSync(fd, text);
      fsyncSync(fd);
    });
    renameSync(temporary, path);
    withFile(dirname(path), "r", fsyncSync);
  });
}

function withFile(path: string, flags: string, body: (fd: number) => void): void {
  const fd = openSync(path, flags, 0o600);
  try {
    body(fd);
  } finally {
    closeSync(fd);
  }
}

/** Runs a file operation on the home; its failure becomes a HobError that says what to do. */
export function homeOperation<T>(operation: string, path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw homeError(operation, path, error as NodeJS.ErrnoException);
  }
}

function homeError(operation: string, path: string, error: NodeJS.ErrnoException): HobError {
  const message = `${operation} ${path}: ${error.code ?? error.message}`;
  if (error.code === "ENOSPC" || error.code === "EDQUOT") {
    return new HobError("no_space", message, { hint: "free space on the disk that holds the state directory", cause: error });
  }
  return new HobError("home_unusable", message, { hint: "choose a directory of your own with --home or HOB_HOME", cause: error });
}
