import { randomBytes } from "node:crypto";
import { constants } from "node:os";
import { HobError, type RestorePathAnswer } from "@hob/protocol";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";
import type { FileOperations } from "../files/operations.ts";
import { type EntryRecord, FileError, type FilesDone } from "../helper/files.ts";
import { normalPath } from "./diff.ts";
import { entryAt, namesOf, pathOfNames, perform } from "./entries.ts";
import type { OpenTree } from "./trees.ts";
import { findWay, type Way } from "./way.ts";

const { ENOENT } = constants.errno;
/** Files, folders, links, pipes, sockets: what a copy makes. */
const RESTORABLE_KINDS = ["f", "d", "l", "p", "s"];
/** Nobody makes these inside, not even root: mknod(2) wants the capability of the machine. */
const DEVICE_KINDS = ["c", "b"];

/** What is no part of the tree that checkpoints show: made anew at each start, or a file system of its own. */
const ELSEWHERE = ["/proc", "/sys", "/dev", "/run", "/.sprite", "/.pilot", ...PLAIN_DIRECTORIES.map(({ target }) => target)] as const;

/**
 * Puts a path back to what it was, as root and inside the container: no path is followed from out here. Whatever refuses it is
 * found before anything is changed, and the copy is complete before what is there goes, so a failure before that changes
 * nothing. Folders that are there stay the same folders: processes that work in them go on. What is mounted in them stays.
 * @throws HobError `invalid_request` | `conflict` | FileError, `ENOENT` if the checkpoint does not have it
 */
export async function restorePath(operations: FileOperations, tree: OpenTree, asked: string): Promise<RestorePathAnswer> {
  const path = normalPath(asked);
  requireRestorable(path);
  const names = namesOf(path);
  const name = names.pop() ?? "";
  const way = await findWay(operations, tree, pathOfNames(names));
  const [source, destination] = [below(way.source, name), below(way.destination, name)];
  requireRestorable(destination);
  const entry = await entryAt(operations, source, tree.inside);
  if (entry === undefined) throw new FileError(ENOENT, path);
  if (!RESTORABLE_KINDS.includes(entry.kind)) {
    throw new HobError("invalid_request", `restore ${path}: it was a device, and these are not restored`);
  }
  await using made = await makeMissing(operations, way).catch(linkOnWay(path));
  const { count, bytes, replaced, leftOut } = await putBack(operations, { source, root: tree.inside, destination }).catch(linkOnWay(path));
  made.keep();
  return { id: tree.id, path, count, bytes, replaced, leftOut: leftOut.map((name) => below(path, name)) };
}

/** Somebody inside put it there since the way was found; nothing is written through it. */
function linkOnWay(path: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof FileError && error.errno === "ELOOP")) throw error;
    throw new HobError("conflict", `restore ${path}: a folder on the way to it has just become a symbolic link`, {
      hint: "repeat the request when nothing moves folders there",
    });
  };
}

const below = (folder: string, name: string): string => (folder === "/" ? `/${name}` : `${folder}/${name}`);

function requireRestorable(path: string): void {
  if (path === "/") throw new HobError("invalid_request", "restore /: this is all of it", { hint: "restore the checkpoint itself" });
  const within = ELSEWHERE.find((mounted) => path === mounted || path.startsWith(`${mounted}/`));
  if (within !== undefined) throw new HobError("invalid_request", `restore ${path}: ${within} cannot be restored path by path`);
}

interface Copy {
  readonly source: string;
  /** of `source` */
  readonly root: string;
  readonly destination: string;
}

/** No link is followed: the way was found, and must still be the same. */
const NO_LINKS = { noLinks: true } as const;

interface PutBack extends FilesDone {
  readonly replaced: boolean;
  /** devices, relative */
  readonly leftOut: readonly string[];
}

async function putBack(operations: FileOperations, { source, root, destination }: Copy): Promise<PutBack> {
  const folder = destination.slice(0, destination.lastIndexOf("/") + 1);
  const temporary = `${folder}.hob-restore-${randomBytes(6).toString("hex")}`;
  const copy = { operation: "copy", path: source, root, destination: temporary } as const;
  const leftOut: string[] = [];
  const onEntries = (entries: readonly EntryRecord[]) =>
    void leftOut.push(...entries.filter(({ kind }) => DEVICE_KINDS.includes(kind)).map((entry) => entry.path));
  const flags = { recursive: true, preserve: true, archive: true, ...NO_LINKS };
  try {
    const done = await perform(operations, { ...copy, asRoot: true, flags }, onEntries);
    const installed = await perform(operations, { operation: "install", path: temporary, destination, asRoot: true, flags: NO_LINKS });
    return { ...done, replaced: installed.count > 0, leftOut };
  } finally {
    await remove(operations, temporary, { recursive: true }).catch(() => {});
  }
}

/** Folders that go again when they are disposed of and nothing is in them. */
interface MadeFolders extends AsyncDisposable {
  keep(): void;
}

/** Makes what is missing of the way, with the owners and modes of then: who worked there can work there again. */
async function makeMissing(operations: FileOperations, { missing }: Way): Promise<MadeFolders> {
  const made: string[] = [];
  const giveUp = async () => {
    for (const path of made.splice(0).reverse()) await remove(operations, path, { recursive: false }).catch(() => {});
  };
  try {
    for (const { path, like } of missing) {
      await perform(operations, { operation: "mkdir", path, asRoot: true, flags: NO_LINKS });
      made.push(path);
      if (like !== undefined) await makeAlike(operations, path, like);
    }
  } catch (error) {
    await giveUp();
    throw error;
  }
  return { keep: () => void made.splice(0), [Symbol.asyncDispose]: giveUp };
}

async function makeAlike(operations: FileOperations, path: string, { uid, gid, mode }: EntryRecord): Promise<void> {
  await perform(operations, { operation: "chown", path, asRoot: true, owner: `+${uid}`, group: `+${gid}`, flags: NO_LINKS });
  await perform(operations, { operation: "chmod", path, asRoot: true, mode: mode & 0o7777, flags: NO_LINKS });
}

/** One that is not there is no error. */
async function remove(operations: FileOperations, path: string, flags: { recursive: boolean }): Promise<void> {
  try {
    await perform(operations, { operation: "delete", path, asRoot: true, flags: { ...flags, ...NO_LINKS } });
  } catch (error) {
    if (!(error instanceof FileError && error.errno === "ENOENT")) throw error;
  }
}
