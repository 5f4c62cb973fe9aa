import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ExecSpec, HelperClient } from "../../src/helper/index.ts";

const BUILD_SCRIPT = new URL("../../../../native/build.sh", import.meta.url).pathname;

/** The sanitizers turn a memory error into an abort, which the tests see as a lost connection. */
const SANITIZED = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all";

let built: string | undefined;

/** Compiles the helper once per test process, with sanitizers where the compiler has them. */
export function buildHelper(): string {
  if (built !== undefined) return built;
  const directory = mkdtempSync(join(tmpdir(), "hob-helper-"));
  const path = join(directory, "hob-helper");
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  try {
    execFileSync(BUILD_SCRIPT, [path], { stdio: "pipe", env: { ...process.env, CFLAGS: SANITIZED } });
  } catch {
    execFileSync(BUILD_SCRIPT, [path], { stdio: "pipe" });
  }
  built = path;
  return path;
}

export interface RunningHelper extends AsyncDisposable {
  readonly client: HelperClient;
  readonly socketPath: string;
  readonly process: ChildProcess;
  /** what the server or a supervisor wrote to standard error: sanitizer reports */
  stderr(): string;
}

export async function startHelper(binary = buildHelper()): Promise<RunningHelper> {
  const directory = mkdtempSync(join(tmpdir(), "hob-serve-"));
  const socketPath = join(directory, "helper.sock");
  const child = spawn(binary, ["serve", socketPath], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ASAN_OPTIONS: "detect_leaks=0" },
  });
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk.toString("utf8");
  });
  await waitFor(() => existsSync(socketPath), "the helper's socket");
  return {
    client: new HelperClient(socketPath),
    socketPath,
    process: child,
    stderr: () => stderr,
    async [Symbol.asyncDispose]() {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      if (child.exitCode === null && child.signalCode === null) await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export async function waitFor(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`no ${what} within ${timeoutMs} ms`);
    await sleep(10);
  }
}

export interface Collected {
  code: number;
  stdout: string;
  stderr: string;
}

/** A command of the root namespace, as root. */
export const rootCommand = (...argv: string[]): ExecSpec => ({
  argv,
  env: { PATH: "/usr/bin:/bin:/usr/sbin:/sbin" },
  cwd: "/",
  uid: 0,
  gid: 0,
});

/** Runs a command to its end; input is what is given, then its end. */
export async function collect(client: HelperClient, spec: ExecSpec, input = ""): Promise<Collected> {
  const child = await client.exec(spec);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.start({ stdout: (chunk) => out.push(chunk), stderr: (chunk) => err.push(chunk) });
  if (input !== "") child.write(Buffer.from(input));
  child.end();
  const { code } = await child.exited;
  return { code, stdout: Buffer.concat(out).toString("utf8"), stderr: Buffer.concat(err).toString("utf8") };
}
