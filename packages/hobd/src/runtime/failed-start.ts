import { statfs } from "node:fs/promises";
import { HobError } from "@hob/protocol";

/** Less than any start of a VM needs. */
const FREE_BYTES_MIN = 16 * 1024 ** 2;

/**
 * What is to be said of a start that failed. A VMM that touches memory for which the disk has no room is ended by SIGBUS, mmap(2),
 * and cannot say why.
 *
 * @param directory on the disk of the VM's memory and volume
 */
export async function explainStart(error: unknown, directory: string, free: (directory: string) => Promise<number> = freeBytes) {
  if (error instanceof HobError && (error.code === "missing_tool" || error.code === "no_space")) return error;
  if ((await free(directory).catch(() => Number.POSITIVE_INFINITY)) >= FREE_BYTES_MIN) return error;
  return new HobError("no_space", "start the microVM: this machine's disk is full", {
    hint: "make room on the disk of the daemon's home, then try again: what the sprite has written is on its volume",
    cause: error,
  });
}

async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}
