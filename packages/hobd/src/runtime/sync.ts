import { open } from "node:fs/promises";

/** Has these files and folders outlive a crash of the host; of a folder that is which names it has. fsync(2) */
export async function syncAll(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const file = await open(path, "r");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
}
