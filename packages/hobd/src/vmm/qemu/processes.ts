import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { HobError } from "@hob/protocol";
import type { Credentials } from "../driver.ts";

/** A process that outlives the daemon: identified by pid and start time, so that a reused pid is never mistaken for it. */
export interface ProcessIdentity {
  pid: number;
  /** field 22 of /proc/PID/stat, clock ticks since boot; proc_pid_stat(5) */
  startTicks: string;
}

export interface InheritedFile {
  path: string;
  flags: string;
}

/**
 * Starts a program in a session of its own, detached from the daemon, with files open as descriptors 3, 4, …
 * Its standard output and error go to `logFile`.
 *
 * @throws HobError `missing_tool` when the program is not installed
 */
export function startDetached(
  argv: readonly [string, ...string[]],
  options: { logFile: string; files: readonly InheritedFile[]; credentials: Credentials | undefined },
): Promise<ChildProcess> {
  const log = openSync(options.logFile, "a", 0o600);
  const opened: number[] = [];
  try {
    for (const { path, flags } of options.files) opened.push(openSync(path, flags));
    const [program, ...args] = argv;
    const child = spawn(program, args, {
      detached: true,
      stdio: ["ignore", log, log, ...opened],
      cwd: "/",
      env: {},
      ...options.credentials,
    });
    child.unref();
    return new Promise((resolve, reject) => {
      child.once("spawn", () => resolve(child));
      child.once("error", (cause: NodeJS.ErrnoException) => {
        if (cause.code !== "ENOENT") return reject(new HobError("vm_failed", `start ${program}: ${cause.message}`, { cause }));
        reject(new HobError("missing_tool", `start ${program}: not found`, { hint: "'hob doctor' lists the packages to install", cause }));
      });
    });
  } finally {
    for (const descriptor of [...opened, log]) closeSync(descriptor);
  }
}

export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => undefined);
  if (stat === undefined) return undefined;
  // The command's name may contain spaces and parentheses: fields are counted from the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, startTicks: fields[19] ?? "" };
}

/** Processes of these programs with an argument that contains `text`; proc_pid_cmdline(5). */
export async function findProcesses(programs: readonly string[], text: string): Promise<ProcessIdentity[]> {
  const found: ProcessIdentity[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const [program = "", ...args] = (await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (!programs.includes(basename(program)) || !args.some((argument) => argument.includes(text))) continue;
    const identity = await identify(Number(name));
    if (identity !== undefined) found.push(identity);
  }
  return found;
}

export async function isRunning(process: ProcessIdentity): Promise<boolean> {
  return (await identify(process.pid))?.startTicks === process.startTicks;
}

/** SIGKILL and wait until the process is gone. */
export async function killAndWait(target: ProcessIdentity, timeoutMs = 5_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (await isRunning(target)) {
    try {
      process.kill(target.pid, "SIGKILL");
    } catch {
      // gone between the two calls
    }
    if (performance.now() > deadline) throw new HobError("timeout", `end process ${target.pid}: still there after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves when the process is gone; works for processes that are not children of this one. */
export async function waitForExit(target: ProcessIdentity, child?: ChildProcess): Promise<void> {
  if (child !== undefined) {
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
    return;
  }
  while (await isRunning(target)) await new Promise((resolve) => setTimeout(resolve, 250).unref());
}

export const writeJson = (path: string, value: unknown): Promise<void> => writeFile(path, JSON.stringify(value), { mode: 0o600 });

export async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as T;
  } catch {
    return undefined;
  }
}
