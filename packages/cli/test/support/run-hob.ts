import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { TEST_TOKEN, TestDaemon } from "../../../client/test/support/test-daemon.ts";

export const HOB = join(import.meta.dirname, "../../../../bin/hob");

/** Bound on one CLI process: a hang is a failure with a name. */
const RUN_TIMEOUT_MS = 30_000;

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

/** A home directory of its own, so that no test meets the state of the person who runs it. */
export class TestHome implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hob-cli-test-"));

  /** Leaves in the home what a daemon leaves there. */
  connect(daemon: TestDaemon): this {
    writeFileSync(join(this.path, "hobd.json"), JSON.stringify({ pid: process.pid, url: daemon.url, version: "0.1.0" }));
    writeFileSync(join(this.path, "token"), `${TEST_TOKEN}\n`, { mode: 0o600 });
    return this;
  }

  /** Environment of a CLI process that uses this home. */
  get env(): Record<string, string> {
    const cleaned = Object.entries(process.env).filter(([key]) => !/^(HOB_|NO_COLOR|FORCE_COLOR|NODE_)/.test(key));
    return { ...(Object.fromEntries(cleaned) as Record<string, string>), HOB_HOME: this.path, HOB_CACHE: join(this.path, "cache") };
  }

  start(args: readonly string[], env: Record<string, string> = {}, cwd?: string): ChildProcessWithoutNullStreams {
    return spawn(HOB, args, { env: { ...this.env, ...env }, ...(cwd === undefined ? {} : { cwd }) });
  }

  /** Runs the CLI to its end. @param input standard input; without it the input is empty */
  run(args: readonly string[], options: { input?: string | Buffer; env?: Record<string, string>; cwd?: string } = {}): Promise<Ended> {
    const child = this.start(args, options.env, options.cwd);
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
    return ended(child);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A daemon of the tests' own with these sprites, and a home that knows it, until the end of the tests of a file. */
export async function startHob(...sprites: readonly string[]): Promise<{ daemon: TestDaemon; home: TestHome }> {
  const daemon = await TestDaemon.start();
  for (const name of sprites) daemon.add(name);
  const home = new TestHome().connect(daemon);
  after(async () => {
    home[Symbol.dispose]();
    await daemon.close();
  });
  return { daemon, home };
}

export function ended(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`hob did not end within ${RUN_TIMEOUT_MS} ms; stderr: ${Buffer.concat(stderr)}`));
    }, RUN_TIMEOUT_MS);
    child.once("close", (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() });
    });
  });
}
