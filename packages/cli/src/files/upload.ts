import { createReadStream, type Stats } from "node:fs";
import { lstat, readdir, readlink, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { SpriteFiles } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Tally } from "./tally.ts";

export interface CopyOptions {
  recursive: boolean;
  asRoot: boolean;
}

/**
 * Copies a file or folder of this machine into a sprite. A destination that is a folder gets it inside, as with cp(1).
 * @throws HobError if the source cannot be copied at all; what fails below is in the tally
 */
export async function upload(files: SpriteFiles, source: string, destination: string, options: CopyOptions, tally: Tally): Promise<void> {
  const info = await stat(source).catch((cause: NodeJS.ErrnoException) => {
    throw new HobError("not_found", `${source}: ${cause.code === "ENOENT" ? "no such file or folder" : cause.message}`, { cause });
  });
  if (info.isDirectory() && !options.recursive) {
    throw new HobError("usage", `${source} is a folder`, { hint: "-r copies it with all that is in it" });
  }
  if (!info.isDirectory() && !info.isFile()) throw new HobError("usage", `${source} is neither a file nor a folder`);
  const target = await targetOf(files, destination, basename(resolve(source)), options);
  if (info.isFile()) return sendFile(files, source, target, info, options, tally);
  await sendDirectory(files, source, target, info, options, tally);
}

async function targetOf(files: SpriteFiles, destination: string, name: string, { asRoot }: CopyOptions): Promise<string> {
  try {
    const present = await files.stat(destination, { asRoot });
    return present.isDir ? join(present.path, name) : destination;
  } catch (error) {
    if (!(error instanceof HobError && error.details.code === "ENOENT") || destination.endsWith("/")) throw error;
    return destination;
  }
}

async function sendFile(
  files: SpriteFiles,
  source: string,
  target: string,
  info: Stats,
  { asRoot }: CopyOptions,
  tally: Tally,
): Promise<void> {
  const reading = createReadStream(source);
  const counted = tally.counter();
  reading.once("error", (error) => counted.destroy(error));
  counted.once("close", () => reading.destroy());
  await files.write(target, reading.pipe(counted), { mode: info.mode & 0o777, asRoot });
  tally.files++;
}

/** One entry after the other: the network is the bound, and the order stays clear when something fails. */
async function sendDirectory(
  files: SpriteFiles,
  source: string,
  target: string,
  info: Stats,
  options: CopyOptions,
  tally: Tally,
): Promise<void> {
  // Entered while it is filled, whatever its own permissions; a folder that is there keeps what it has.
  await files.makeDirectory(target, { parents: true, asRoot: options.asRoot });
  for (const name of (await readdir(source)).sort()) {
    await tally.attempt(join(source, name), () => sendEntry(files, join(source, name), join(target, name), options, tally));
  }
  await files.chmod(target, info.mode & 0o777, { asRoot: options.asRoot });
}

async function sendEntry(files: SpriteFiles, source: string, target: string, options: CopyOptions, tally: Tally): Promise<void> {
  const info = await lstat(source);
  if (info.isDirectory()) return sendDirectory(files, source, target, info, options, tally);
  if (info.isFile()) return sendFile(files, source, target, info, options, tally);
  if (!info.isSymbolicLink()) throw new HobError("invalid_request", "neither a file, a folder nor a symbolic link; left out");
  const text = await readlink(source);
  await files.makeSymlink(text, target, { asRoot: options.asRoot }).catch(async (error: unknown) => {
    if (!(error instanceof HobError && error.details.code === "EEXIST")) throw error;
    await files.delete(target, { asRoot: options.asRoot });
    await files.makeSymlink(text, target, { asRoot: options.asRoot });
  });
  tally.files++;
}
