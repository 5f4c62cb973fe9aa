import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Unit of st_blocks, stat(2) */
const BLOCK_BYTES = 512;

/** Bytes that a file or a folder with all below it takes on the disk: of a sparse file what was written. What disappears meanwhile counts as nothing. */
export async function bytesOnDisk(path: string): Promise<number> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return 0;
  let bytes = found.blocks * BLOCK_BYTES;
  if (!found.isDirectory()) return bytes;
  for (const name of await readdir(path).catch(() => [])) bytes += await bytesOnDisk(join(path, name));
  return bytes;
}
