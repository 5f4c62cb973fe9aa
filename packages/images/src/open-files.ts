import { readdir, readlink, realpath } from "node:fs/promises";
import { sep } from "node:path";

/**
 * Names of the entries of a folder in which a process has a file open; proc_pid_fd(5). Processes of other users are seen by root only:
 * a cache belongs to one user.
 */
export async function entriesInUse(root: string): Promise<Set<string>> {
  const names = new Set<string>();
  const base = await realpath(root).catch(() => undefined);
  if (base === undefined) return names;
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const folder = `/proc/${pid}/fd`;
    const descriptors = await readdir(folder).catch(() => []);
    const targets = await Promise.all(descriptors.map((descriptor) => readlink(`${folder}/${descriptor}`).catch(() => "")));
    for (const target of targets) {
      const [name = ""] = target.startsWith(`${base}${sep}`) ? target.slice(base.length + 1).split(sep) : [];
      if (name !== "") names.add(name);
    }
  }
  return names;
}
