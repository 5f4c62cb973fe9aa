import { statfs } from "node:fs/promises";

/** The disk counts as short below this much, or below this share of it, whichever is less. */
const FREE_BYTES_MIN = 2 * 1024 ** 3;
const FREE_SHARE_MIN = 0.1;

/** Whether the disk under this folder is so full that the memory of sleeping sprites had better go. */
export async function diskIsShort(directory: string): Promise<boolean> {
  const { bavail, blocks, bsize } = await statfs(directory);
  return bavail * bsize < Math.min(FREE_BYTES_MIN, blocks * bsize * FREE_SHARE_MIN);
}
