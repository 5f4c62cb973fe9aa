import { readFile } from "node:fs/promises";
import { formatBytes } from "../output/format.ts";
import type { Check } from "./check.ts";

const GIB = 1024 ** 3;
const MEMORY_BYTES_MIN = 2 * GIB;
/** Firmware and kernel keep a part: a machine of 2 GiB tells of 5 to 10 % less. */
const TOLERANCE = 0.9;

/** Memory of the machine, /proc/meminfo in proc(5). */
export const checkMemory: Check = async ({ files }) => {
  const text = await readFile(files.meminfo, "utf8");
  const total = field(text, "MemTotal");
  const available = field(text, "MemAvailable");
  const found = `${formatBytes(available)} available of ${formatBytes(total)}`;
  const enough = MEMORY_BYTES_MIN * TOLERANCE;
  if (total < enough)
    return [{ check: "memory", level: "fail", found, advice: `a machine with at least ${formatBytes(MEMORY_BYTES_MIN)} is needed` }];
  if (available < enough) return [{ check: "memory", level: "warn", found, advice: "end some programs, or keep few sprites running" }];
  return [{ check: "memory", level: "ok", found }];
};

/** @returns bytes; 0 when the field is absent */
function field(meminfo: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(meminfo)?.[1] ?? 0) * 1024;
}
