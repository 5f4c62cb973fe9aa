import { constants } from "node:os";
import { HobError } from "@hob/protocol";
import type { FileOperations } from "../files/operations.ts";
import { type EntryRecord, FileError } from "../helper/files.ts";
import { entryAt, namesOf, pathOfNames } from "./entries.ts";
import type { OpenTree } from "./trees.ts";

const { ELOOP, ENOENT, ENOTDIR } = constants.errno;
/** As many as the kernel follows in one path. path_resolution(7) */
const LINKS_MAX = 40;

/** Where a folder is: no part of these paths is a symbolic link. */
export interface Way {
  /** in the checkpoint */
  readonly source: string;
  /** in the live tree */
  readonly destination: string;
  /** what is not there of `destination`, the outermost first, and what the checkpoint has in its place */
  readonly missing: readonly { readonly path: string; readonly like: EntryRecord | undefined }[];
}

/**
 * Finds where a folder of the checkpoint is in the live tree. A symbolic link on the way in the live tree must lead to where the
 * path led then, by whatever text: else something would be written, as root, that the path never named. A folder where
 * there was a link is the user's choice, and what the path names. Nothing is changed.
 * @throws FileError `ENOENT` if the checkpoint does not have the folder; HobError `conflict` where the live tree has something
 *   else on the way
 */
export async function findWay(operations: FileOperations, tree: OpenTree, folder: string): Promise<Way> {
  const [then, now] = [new Walk(operations, tree.inside), new Walk(operations)];
  const missing: { path: string; like: EntryRecord | undefined }[] = [];
  const asked: string[] = [];
  for (const name of namesOf(folder)) {
    asked.push(name);
    const path = pathOfNames(asked);
    const was = await then.enter(name);
    if (then.missing > 0) throw new FileError(ENOENT, path);
    const before = now.missing;
    const is = await now.enter(name).catch(blocked(path));
    if (is?.kind === "l" && now.path !== then.path) throw conflict(path, `it leads to ${now.path} now, and then it was ${then.path}`);
    if (is === undefined && was?.kind === "l") throw conflict(path, "it was a symbolic link then, and is gone");
    // Of a link that leads nowhere now, more than one part may be missing of where it led.
    for (let left = now.missing - before - 1; left >= 0; left--) {
      const like = await entryAt(operations, then.above(left), tree.inside);
      missing.push({ path: now.above(left), like });
    }
  }
  return { source: then.path, destination: now.path, missing };
}

const conflict = (path: string, why: string): HobError =>
  new HobError("conflict", `restore below ${path}: ${why}`, { hint: `restore ${path} itself` });

/** What the live tree has on the way that is no folder. */
function blocked(path: string): (error: unknown) => never {
  return (error) => {
    if (error instanceof FileError && error.errno === "ENOTDIR") throw conflict(path, "it is no folder now");
    if (error instanceof FileError && error.errno === "ELOOP") throw conflict(path, "it is a symbolic link now that leads to itself");
    if (error instanceof FileError && error.errno === "ENOENT") throw conflict(path, "it is a symbolic link now that leads nowhere");
    throw error;
  };
}

/** A way through a tree, part by part, links followed as the kernel does. */
class Walk {
  /** parts of `path` that are not there, the last ones */
  missing = 0;
  readonly #names: string[] = [];
  readonly #operations: FileOperations;
  readonly #root: string | undefined;
  #links = 0;

  constructor(operations: FileOperations, root?: string) {
    this.#operations = operations;
    this.#root = root;
  }

  /** Where it is: no part is a link. */
  get path(): string {
    return pathOfNames(this.#names);
  }

  /** `path` without this many of its last parts. */
  above(parts: number): string {
    return pathOfNames(this.#names.slice(0, this.#names.length - parts));
  }

  /** @returns what the name itself is; undefined: it is not there @throws FileError `ENOTDIR` | `ELOOP` | `ENOENT` */
  async enter(name: string): Promise<EntryRecord | undefined> {
    let own: EntryRecord | undefined;
    const ahead = [name];
    for (let isFirst = true, next = ahead.shift(); next !== undefined; isFirst = false, next = ahead.shift()) {
      const entry = next === ".." ? undefined : await this.#look(next);
      if (isFirst) own = entry;
      if (next === "..") this.#leave();
      else if (entry?.kind === "l") ahead.unshift(...this.#follow(entry.linkTarget));
      else this.#take(next, entry);
    }
    return own;
  }

  async #look(name: string): Promise<EntryRecord | undefined> {
    if (this.missing > 0) return undefined;
    return await entryAt(this.#operations, pathOfNames([...this.#names, name]), this.#root);
  }

  #leave(): void {
    if (this.missing > 0) throw new FileError(ENOENT, this.path);
    this.#names.pop();
  }

  #follow(text: string): string[] {
    if (++this.#links > LINKS_MAX) throw new FileError(ELOOP, this.path);
    if (text.startsWith("/")) this.#names.length = 0;
    return namesOf(text);
  }

  #take(name: string, entry: EntryRecord | undefined): void {
    if (entry !== undefined && entry.kind !== "d") throw new FileError(ENOTDIR, pathOfNames([...this.#names, name]));
    this.#names.push(name);
    if (entry === undefined) this.missing++;
  }
}
