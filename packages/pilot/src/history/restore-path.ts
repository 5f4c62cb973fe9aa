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
/** Files, folders, links, pipes: what a copy makes. */
const RESTORABLE_KINDS = ["f", "d", "l", "p"];

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
    throw new HobError("invalid_request", `restore ${path}: it was no file, folder, link or pipe, and others are not restored`);
  }
  await using made = await makeMissing(operations, way);
  const done = await putBack(operations, { source, root: tree.inside, destination });
  made.keep();
  return { id: tree.id, path, count: done.count, bytes: done.bytes, replaced: done.replaced };
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

async function putBack(operations: FileOperations, { source, root, destination }: Copy): Promise<FilesDone & { replaced: boolean }> {
  const folder = destination.slice(0, destination.lastIndexOf("/") + 1);
  const temporary = `${folder}.hob-restore-${randomBytes(6).toString("hex")}`;
  const copy = { operation: "copy", path: source, root, destination: temporary } as const;
  try {
    const done = await perform(operations, { ...copy, asRoot: true, flags: { recursive: true, preserve: true } });
    const installed = await perform(operations, { operation: "install", path: temporary, destination, asRoot: true });
    return { ...done, replaced: installed.count > 0 };
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
      await perform(operations, { operation: "mkdir", path, asRoot: true });
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
  await perform(operations, { operation: "chown", path, asRoot: true, owner: `+${uid}`, group: `+${gid}` });
  await perform(operations, { operation: "chmod", path, asRoot: true, mode: mode & 0o7777 });
}

/** One that is not there is no error. */
async function remove(operations: FileOperations, path: string, flags: { recursive: boolean }): Promise<void> {
  try {
    await perform(operations, { operation: "delete", path, asRoot: true, flags });
  } catch (error) {
    if (!(error instanceof FileError && error.errno === "ENOENT")) throw error;
  }
}
