import { readdir, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = "/sys/fs/cgroup";

/** Hands the controllers down to the sprite's subtree; the root group is exempt from "no internal processes", cgroups(7). */
export async function enableControllers(): Promise<void> {
  await writeFile(join(ROOT, "cgroup.subtree_control"), "+cpu +io +memory +pids");
}

/** Removes a cgroup and all below it, innermost first; they must be empty of processes. */
export async function removeCgroups(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeCgroups(join(directory, entry.name));
  await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
}

/** Stops or lets go on every process in a cgroup and below it, cgroups(7). One that does not exist has none. */
export async function setFrozen(directory: string, frozen: boolean): Promise<void> {
  await writeFile(join(directory, "cgroup.freeze"), frozen ? "1" : "0").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
}
