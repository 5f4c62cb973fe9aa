import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { storageAssignment } from "@hob/protocol";
import type { z } from "zod";

const record = storageAssignment.pick({ epoch: true, base: true });

/** Under which epoch the volume beside it was written, and what it has still to be put over. */
export type OwnershipRecord = z.infer<typeof record>;

/** The record beside a volume: whole at any time, and on disk before the volume is used. */
export class OwnershipFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async read(): Promise<OwnershipRecord | undefined> {
    const text = await readFile(this.#path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    return text === undefined ? undefined : record.parse(JSON.parse(text));
  }

  async write(value: OwnershipRecord): Promise<void> {
    const file = await open(`${this.#path}.new`, "w", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(value)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${this.#path}.new`, this.#path);
    const folder = await open(dirname(this.#path), "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }
}
