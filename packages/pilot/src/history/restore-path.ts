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
 * @throws HobError `invalid_request` | FileError, `ENOENT` if the checkpoint does not have it
 */
export async function restorePath(operations: FileOperations, tree: OpenTree, asked: string): Promise<RestorePathAnswer> {
  const path = normalPath(asked);
  requireRestorable(path);
  const parent = path.slice(0, path.lastIndexOf("/")) || "/";
  const temporary = `${parent === "/" ? "" : parent}/.hob-restore-${randomBytes(6).toString("hex")}`;
  // Its parents may be gone, but none is made for a path that the checkpoint does not have.
  await requirePresent(operations, tree, path);
  await makeFolders(operations, tree, parent);
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

/** @throws FileError `ENOENT` */
async function requirePresent(operations: FileOperations, tree: OpenTree, path: string): Promise<void> {
  const [parent, name] = [path.slice(0, path.lastIndexOf("/")) || "/", path.slice(path.lastIndexOf("/") + 1)];
  const stream = await operations.start({ operation: "list", path: parent, root: tree.inside, asRoot: true });
  try {
    const entries = stream.entries();
    for (;;) {
      const next = await entries.next();
      if (next.done === true) throw new FileError(ENOENT, path);
      if (next.value.some((entry) => entry.path === name)) return;
    }
  } finally {
    stream.close();
  }
}

/** Makes what is missing of the way to a folder, with the owners and modes of then: who worked there can work there again. */
async function makeFolders(operations: FileOperations, tree: OpenTree, folder: string): Promise<void> {
  const names = folder.split("/").slice(1);
  for (const [index, name] of names.entries()) {
    const path = `/${names.slice(0, index + 1).join("/")}`;
    if (name === "" || !(await makeFolder(operations, path))) continue;
    const was = await lookAt(operations, tree, path);
    if (was?.kind !== "d") continue;
    await perform(operations, { operation: "chown", path, asRoot: true, owner: `+${was.uid}`, group: `+${was.gid}` });
    await perform(operations, { operation: "chmod", path, asRoot: true, mode: was.mode & 0o7777 });
  }
}

/** @returns false when something of this name is there */
async function makeFolder(operations: FileOperations, path: string): Promise<boolean> {
  try {
    await perform(operations, { operation: "mkdir", path, asRoot: true });
    return true;
  } catch (error) {
    if (error instanceof FileError && error.errno === "EEXIST") return false;
    throw error;
  }
}

async function lookAt(operations: FileOperations, tree: OpenTree, path: string): Promise<EntryRecord | undefined> {
  const stream = await operations.start({ operation: "list", path, root: tree.inside, asRoot: true, flags: { itself: true } });
  try {
    const next = await stream.entries().next();
    return next.done === true ? undefined : next.value[0];
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
