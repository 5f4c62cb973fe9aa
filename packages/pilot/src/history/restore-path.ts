import { randomBytes } from "node:crypto";
import { constants } from "node:os";
import { HobError, type RestorePathAnswer } from "@hob/protocol";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";
import type { FileOperationRequest, FileOperations } from "../files/operations.ts";
import { type EntryRecord, FileError, type FilesDone } from "../helper/files.ts";
import { normalPath } from "./diff.ts";
import type { OpenTree } from "./trees.ts";

const { ENOENT } = constants.errno;

/** What is no part of the tree that checkpoints show: made anew at each start, or a file system of its own. */
const ELSEWHERE = ["/proc", "/sys", "/dev", "/run", "/.sprite", "/.pilot", ...PLAIN_DIRECTORIES.map(({ target }) => target)] as const;

/**
 * Puts a path back to what it was, as root and inside the container: no path is followed from out here. The copy is
 * complete before what is there goes, so a failure before that changes nothing. Folders that are there stay the same
 * folders: processes that work in them go on. What is mounted in them stays.
 * @throws HobError `invalid_request` | `conflict` | FileError, `ENOENT` if the checkpoint does not have it
 */
export async function restorePath(operations: FileOperations, tree: OpenTree, asked: string): Promise<RestorePathAnswer> {
  const path = normalPath(asked);
  requireRestorable(path);
  const parent = path.slice(0, path.lastIndexOf("/")) || "/";
  const temporary = `${parent === "/" ? "" : parent}/.hob-restore-${randomBytes(6).toString("hex")}`;
  // Its parents may be gone, but none is made for a path that the checkpoint does not have.
  if ((await entryAt(operations, path, tree.inside)) === undefined) throw new FileError(ENOENT, path);
  await makeWay(operations, tree, parent);
  const copy = { operation: "copy", path, root: tree.inside, destination: temporary } as const;
  try {
    const { count, bytes } = await perform(operations, { ...copy, asRoot: true, flags: { recursive: true, preserve: true } });
    const installed = await perform(operations, { operation: "install", path: temporary, destination: path, asRoot: true });
    return { id: tree.id, path, count, bytes, replaced: installed.count > 0 };
  } finally {
    await remove(operations, temporary).catch(() => {});
  }
}

function requireRestorable(path: string): void {
  if (path === "/") throw new HobError("invalid_request", "restore /: this is all of it", { hint: "restore the checkpoint itself" });
  const within = ELSEWHERE.find((mounted) => path === mounted || path.startsWith(`${mounted}/`));
  if (within !== undefined) throw new HobError("invalid_request", `restore ${path}: ${within} cannot be restored path by path`);
}

/**
 * Makes what is missing of the way to a folder, with the owners and modes of then: who worked there can work there again.
 * @throws HobError `conflict` where the way leads elsewhere than it did: the path would be put there, as root
 */
async function makeWay(operations: FileOperations, tree: OpenTree, folder: string): Promise<void> {
  const names = folder.split("/").filter((name) => name !== "");
  for (const index of names.keys()) {
    const path = `/${names.slice(0, index + 1).join("/")}`;
    const now = await entryAt(operations, path);
    if (now !== undefined && now.kind !== "l") continue;
    const then = await entryAt(operations, path, tree.inside);
    if (now === undefined) await makeFolder(operations, path, then);
    else if (then?.kind !== "l" || then.linkTarget !== now.linkTarget) {
      throw new HobError("conflict", `restore below ${path}: it is a symbolic link now, which it was not or led elsewhere`, {
        hint: `restore ${path} itself`,
      });
    }
  }
}

async function makeFolder(operations: FileOperations, path: string, like: EntryRecord | undefined): Promise<void> {
  await perform(operations, { operation: "mkdir", path, asRoot: true });
  if (like?.kind !== "d") return;
  await perform(operations, { operation: "chown", path, asRoot: true, owner: `+${like.uid}`, group: `+${like.gid}` });
  await perform(operations, { operation: "chmod", path, asRoot: true, mode: like.mode & 0o7777 });
}

/** What its folder says of a path; links are not followed at the end. @throws FileError when there is no such folder */
async function entryAt(operations: FileOperations, path: string, root?: string): Promise<EntryRecord | undefined> {
  const [parent, name] = [path.slice(0, path.lastIndexOf("/")) || "/", path.slice(path.lastIndexOf("/") + 1)];
  const stream = await operations.start({ operation: "list", path: parent, asRoot: true, ...(root === undefined ? {} : { root }) });
  try {
    for await (const entries of stream.entries()) {
      const found = entries.find((entry) => entry.path === name);
      if (found !== undefined) return found;
    }
    return undefined;
  } finally {
    stream.close();
  }
}

/** One that is not there is no error. */
async function remove(operations: FileOperations, path: string): Promise<void> {
  try {
    await perform(operations, { operation: "delete", path, asRoot: true, flags: { recursive: true } });
  } catch (error) {
    if (!(error instanceof FileError && error.errno === "ENOENT")) throw error;
  }
}

async function perform(operations: FileOperations, request: FileOperationRequest): Promise<FilesDone> {
  const stream = await operations.start(request);
  try {
    const entries = stream.entries();
    for (;;) {
      const next = await entries.next();
      if (next.done === true) return next.value;
    }
  } finally {
    stream.close();
  }
}
