import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = "/sys/fs/cgroup";

/**
 * Hands all controllers down to the sprite's subtree, as crun would; the root group is exempt from "no internal
 * processes", cgroups(7). A group beside the sprite's keeps them in use for good: the kernel changes its own code when
 * the first group of a controller comes and when the last one goes, which a bounce would make it do each time, all CPUs
 * waiting.
 */
export async function enableControllers(): Promise<void> {
  const controllers = (await readFile(join(ROOT, "cgroup.controllers"), "utf8")).split(/\s+/).filter(Boolean);
  await writeFile(join(ROOT, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
  await mkdir(join(ROOT, "kept"), { recursive: true });
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
