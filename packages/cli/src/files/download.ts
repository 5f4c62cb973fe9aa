import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { chmod, lstat, mkdir, rename, rm, stat, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { SpriteFiles } from "@hob/client";
import type { FileEntry } from "@hob/protocol/api/files.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Tally } from "./tally.ts";
import type { CopyOptions } from "./upload.ts";

/**
 * Copies a file or folder of a sprite to this machine. A destination that is a folder gets it inside, as with cp(1).
 * What the sprite says is not trusted: no name leads out of the destination, and no link that it names is followed.
 * @throws HobError if the source cannot be copied at all; what fails below is in the tally
 */
export async function download(files: SpriteFiles, source: string, destination: string, options: CopyOptions, tally: Tally): Promise<void> {
  const entry = await files.stat(source, { asRoot: options.asRoot });
  if (entry.isDir && !options.recursive) {
    throw new HobError("usage", `${source} is a folder`, { hint: "-r copies it with all that is in it" });
  }
  const present = await stat(destination).catch(() => undefined);
  if (present === undefined && destination.endsWith("/") && !entry.isDir) {
    throw new HobError("not_found", `${destination}: no such folder`);
  }
  const target = present?.isDirectory() === true ? join(destination, safeName(basename(entry.path) || "root")) : destination;
  await receive(files, { ...entry, path: source }, target, options, tally);
}

/** @throws HobError `bad_answer` if a name of the sprite is more than a name */
function safeName(name: string): string {
  if (name === "" || name === "." || name === ".." || name.includes("/") || name.includes("\0")) {
    throw new HobError("bad_answer", `a file of the sprite has the name '${name}'`);
  }
  return name;
}

async function receive(files: SpriteFiles, entry: FileEntry, target: string, options: CopyOptions, tally: Tally): Promise<void> {
  if (entry.isDir) return receiveDirectory(files, entry, target, options, tally);
  if (entry.type === "file") return receiveFile(files, entry, target, options, tally);
  if (entry.type !== "symlink") throw new HobError("invalid_request", `a ${entry.type}; left out`);
  await rm(target, { force: true });
  await symlink(entry.target ?? "", target);
  tally.files++;
}

/** Under another name until it is whole; a link that has the name is replaced. */
async function receiveFile(files: SpriteFiles, entry: FileEntry, target: string, { asRoot }: CopyOptions, tally: Tally): Promise<void> {
  const temporary = join(dirname(target), `.hob-cp-${randomBytes(6).toString("hex")}`);
  try {
    const content = await files.read(entry.path, { asRoot });
    await pipeline(content, tally.counter(), createWriteStream(temporary, { flags: "wx", mode: 0o600 }));
    await chmod(temporary, Number.parseInt(entry.mode, 8) & 0o777);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  tally.files++;
}

async function receiveDirectory(files: SpriteFiles, entry: FileEntry, target: string, options: CopyOptions, tally: Tally): Promise<void> {
  await mkdir(target).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST" || !(await lstat(target)).isDirectory()) throw error;
  });
  for (const below of await files.list(entry.path, { asRoot: options.asRoot })) {
    const path = join(entry.path, below.name);
    await tally.attempt(path, () => receive(files, { ...below, path }, join(target, safeName(below.name)), options, tally));
  }
  await chmod(target, Number.parseInt(entry.mode, 8) & 0o777);
}
