import { readdirSync, readlinkSync } from "node:fs";

/** Whether a process has a file open. */
export function hasOpen(pid: number, path: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((descriptor) => readlinkSync(`/proc/${pid}/fd/${descriptor}`) === path);
  } catch {
    return false;
  }
}
