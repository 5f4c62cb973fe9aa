import { readFileSync, watch } from "node:fs";
import { join } from "node:path";

/**
 * Calls back once when a cgroup and those below it have no process left. The kernel announces it as a change of
 * cgroup.events, cgroups(7).
 * @returns a function that ends the watch
 */
export function onceEmpty(cgroup: string, callback: () => void): () => void {
  const file = join(cgroup, "cgroup.events");
  const watcher = watch(file, { persistent: false }, check);
  watcher.on("error", () => watcher.close());
  // What happened before the watch began is not announced.
  check();

  function check(): void {
    if (!isEmpty(file)) return;
    watcher.close();
    setImmediate(callback);
  }
  return () => watcher.close();
}

function isEmpty(file: string): boolean {
  try {
    return /^populated 0$/m.test(readFileSync(file, "utf8"));
  } catch {
    // Removed: then somebody takes care of it already.
    return false;
  }
}
