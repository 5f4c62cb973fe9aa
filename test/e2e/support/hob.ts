import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";

export const HOB = fileURLToPath(new URL("../../../bin/hob", import.meta.url));

/** Bound on one CLI process: a hang is a failure with a name. */
const RUN_TIMEOUT_MS = 120_000;

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/**
 * Environment of a `hob` process that uses this home. Images and templates come from the shared cache; nothing else of
 * the settings of the person who runs the tests gets in.
 */
export function hobEnvironment(home: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => name === "HOB_CACHE" || !/^(HOB_|NODE_|NO_COLOR|FORCE_COLOR)/.test(name));
  return { ...(Object.fromEntries(kept) as Record<string, string>), HOB_HOME: home, ...more };
}

/** @param before a command that runs `hob` in its own place, such as `ip netns exec NAME` */
export function startHob(
  args: readonly string[],
  env: Record<string, string>,
  before: readonly string[] = [],
): ChildProcessByStdio<Writable, Readable, Readable> {
  const [program, ...rest] = [...before, HOB, ...args] as [string, ...string[]];
  return spawn(program, rest, { env, stdio: ["pipe", "pipe", "pipe"] });
}

/** Runs the CLI to its end, its input empty or `input`. */
export function runHob(args: readonly string[], env: Record<string, string>, input = ""): Promise<Ended> {
  const child = startHob(args, env);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`hob ${args.join(" ")}: no end after ${RUN_TIMEOUT_MS} ms; stderr: ${Buffer.concat(stderr)}`));
    }, RUN_TIMEOUT_MS);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    });
  });
}
