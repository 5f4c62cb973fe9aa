import type { FileOperationRequest, FileOperations } from "../files/operations.ts";
import type { EntryRecord, FilesDone } from "../helper/files.ts";

export const namesOf = (path: string): string[] => path.split("/").filter((name) => name !== "" && name !== ".");
export const pathOfNames = (names: readonly string[]): string => `/${names.join("/")}`;

/**
 * What its folder says of a path; links are not followed at the end.
 * @param root folder that stands for the root; undefined: the live tree
 * @throws FileError when there is no such folder
 */
export async function entryAt(operations: FileOperations, path: string, root?: string): Promise<EntryRecord | undefined> {
  const names = namesOf(path);
  const name = names.pop() ?? "";
  const request = { operation: "list", path: pathOfNames(names), pattern: literal(name), asRoot: true } as const;
  const stream = await operations.start({ ...request, ...(root === undefined ? {} : { root }) });
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

/** A pattern of glob(7) that only this name matches. */
const literal = (name: string): string => name.replace(/[*?[\]\\]/g, "\\$&");

/** Runs an operation to its end. @param onEntries told what it names */
export async function perform(
  operations: FileOperations,
  request: FileOperationRequest,
  onEntries: (entries: readonly EntryRecord[]) => void = () => {},
): Promise<FilesDone> {
  const stream = await operations.start(request);
  try {
    const entries = stream.entries();
    for (;;) {
      const next = await entries.next();
      if (next.done === true) return next.value;
      onEntries(next.value);
    }
  } finally {
    stream.close();
  }
}
