import { globSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

export interface FoundProcess {
  pid: number;
  /** name of the program without its folder */
  program: string;
  commandLine: string;
}

/** Running processes whose command line contains `text`, this one left out; proc_pid_cmdline(5). */
export function processesNaming(text: string): FoundProcess[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return pids.flatMap((name) => {
    const argv = readOrEmpty(`/proc/${name}/cmdline`).split("\0").slice(0, -1);
    const commandLine = argv.join(" ");
    if (!commandLine.includes(text) || isZombie(name)) return [];
    return [{ pid: Number(name), program: argv[0]?.split("/").at(-1) ?? "", commandLine }];
  });
}

/** Mount points at or below a folder. */
export function mountsBelow(directory: string): string[] {
  const points = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return points.map((line) => line.split(" ")[1] ?? "").filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/** Running processes that have a file below a folder open, or mapped, or stand in it; those of other users are not seen. This one is left out. */
export function processesUsing(directory: string): FoundProcess[] {
  const isBelow = (path: string) => path === directory || path.startsWith(`${directory}/`);
  return processesNaming("").filter(({ pid }) => {
    const links = [`/proc/${pid}/cwd`, `/proc/${pid}/root`, ...globSync(`/proc/${pid}/fd/*`)].map(linkOrEmpty);
    return links.some(isBelow) || readOrEmpty(`/proc/${pid}/maps`).includes(` ${directory}/`);
  });
}

/** Files below a folder that a loop device of the host is on. */
export function loopFilesBelow(directory: string): string[] {
  const files = globSync("/sys/block/loop*/loop/backing_file").map((path) => readOrEmpty(path).trim());
  return files.filter((file) => file.startsWith(`${directory}/`));
}

export function isAlive(pid: number): boolean {
  return readOrEmpty(`/proc/${pid}/stat`) !== "" && !isZombie(String(pid));
}

const isZombie = (pid: string): boolean => / [ZX] /.test(readOrEmpty(`/proc/${pid}/stat`).replace(/^.*\)/s, ""));

/** A process may end between its listing and the reading of its files. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function linkOrEmpty(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
