import {
  fileChmodRequest,
  fileChownRequest,
  fileCopyRequest,
  fileDeleteRequest,
  fileMkdirRequest,
  fileRenameRequest,
  fileSymlinkRequest,
  HobError,
} from "@hob/protocol";
import type { FilesDone } from "../helper/files.ts";
import type { EntryRecord } from "../helper/index.ts";
import type { FileOperationRequest, FileOperations } from "./operations.ts";
import { bodyParameters, type FilesContext } from "./parameters.ts";
import { absolutePath, pathBelow, withoutSlash } from "./paths.ts";
import { formatMode } from "./write.ts";

/** Runs an operation to its end. The helper names at most FILES_LISTED_MAX entries, so all fit in memory. */
async function run(
  c: FilesContext,
  operations: FileOperations,
  request: FileOperationRequest,
): Promise<FilesDone & { changed: EntryRecord[] }> {
  return operations.during(c.env.outgoing, request, async (stream) => {
    const changed: EntryRecord[] = [];
    const entries = stream.entries();
    for (;;) {
      const next = await entries.next();
      if (next.done === true) return { ...next.value, changed };
      changed.push(...next.value);
    }
  });
}

export async function deleteFiles(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { path, workingDir, asRoot, recursive } = await bodyParameters(c, fileDeleteRequest, "delete");
  const absolute = absolutePath(path, workingDir);
  const done = await run(c, operations, { operation: "delete", path: absolute, asRoot, flags: { recursive } });
  // The helper reports a directory when it is gone, so last; for people it comes first.
  const deleted = done.changed.map((entry) => pathBelow(absolute, entry.path)).reverse();
  return c.json({ deleted, count: done.count });
}

export async function renameFile(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { source, dest, workingDir, asRoot } = await bodyParameters(c, fileRenameRequest, "rename");
  const path = absolutePath(source, workingDir);
  const destination = absolutePath(dest, workingDir);
  await run(c, operations, { operation: "rename", path, destination, asRoot });
  return c.json({ source: withoutSlash(path), dest: withoutSlash(destination) });
}

export async function copyFiles(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { source, dest, workingDir, asRoot, recursive, preserveAttrs } = await bodyParameters(c, fileCopyRequest, "copy");
  const path = absolutePath(source, workingDir);
  const destination = absolutePath(dest, workingDir);
  const flags = { recursive, preserve: preserveAttrs };
  const done = await run(c, operations, { operation: "copy", path, destination, asRoot, flags });
  const copied = done.changed.map((entry) => ({ source: pathBelow(path, entry.path), dest: pathBelow(destination, entry.path) }));
  return c.json({ copied, count: done.count, totalBytes: done.bytes });
}

export async function changeMode(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { path, workingDir, asRoot, mode, recursive } = await bodyParameters(c, fileChmodRequest, "chmod");
  const absolute = absolutePath(path, workingDir);
  const done = await run(c, operations, { operation: "chmod", path: absolute, asRoot, mode, flags: { recursive } });
  const affected = done.changed.map((entry) => ({ path: pathBelow(absolute, entry.path), mode: formatMode(entry.mode) }));
  return c.json({ affected, count: done.count });
}

/** A number is an id, which "+" says to the helper; text may be a name. */
const ownerText = (owner: string | number): string => (typeof owner === "number" ? `+${owner}` : owner);

export async function changeOwner(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { path, workingDir, asRoot, uid, gid, recursive } = await bodyParameters(c, fileChownRequest, "chown");
  const absolute = absolutePath(path, workingDir);
  if ((uid ?? undefined) === undefined && (gid ?? undefined) === undefined) {
    throw new HobError("invalid_request", "chown: uid or gid is required");
  }
  const owner = uid === undefined || uid === null ? {} : { owner: ownerText(uid) };
  const group = gid === undefined || gid === null ? {} : { group: ownerText(gid) };
  const done = await run(c, operations, { operation: "chown", path: absolute, asRoot, flags: { recursive }, ...owner, ...group });
  const affected = done.changed.map((entry) => ({ path: pathBelow(absolute, entry.path), uid: entry.uid, gid: entry.gid }));
  return c.json({ affected, count: done.count });
}

export async function makeDirectory(c: FilesContext, operations: FileOperations): Promise<Response> {
  const parameters = await bodyParameters(c, fileMkdirRequest, "mkdir");
  const { path, workingDir, asRoot, mode } = parameters;
  const absolute = absolutePath(path, workingDir);
  const flags = { parents: parameters.recursive || parameters.mkdir || parameters.mkdirParents };
  const done = await run(c, operations, {
    operation: "mkdir",
    path: absolute,
    asRoot,
    flags,
    ...(mode === undefined || mode === null ? {} : { mode }),
  });
  return c.json({ path: withoutSlash(absolute), mode: formatMode(done.mode) });
}

export async function makeSymlink(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { target, path, workingDir, asRoot } = await bodyParameters(c, fileSymlinkRequest, "symlink");
  const absolute = absolutePath(path, workingDir);
  await run(c, operations, { operation: "symlink", path: absolute, destination: target, asRoot });
  return c.json({ path: withoutSlash(absolute), target });
}
