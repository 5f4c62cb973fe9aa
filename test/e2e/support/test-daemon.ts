import assert from "node:assert/strict";
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { SpritesClient } from "@fly/sprites";
import { RuntimePaths } from "@hob/hobd/runtime/paths.ts";
import { lastLines } from "@hob/linux";
import "./sdk-recorder.ts";
import { type Ended, hobEnvironment, runHob, startHob } from "./hob.ts";
import { type FoundProcess, loopFilesBelow, mountsBelow, processesNaming, processesUsing } from "./processes.ts";
import { until } from "./wait.ts";

/** The start may have to build the pilot's image. */
const READY_TIMEOUT_MS = 180_000;
const STOP_TIMEOUT_MS = 60_000;

export interface DaemonOptions {
  /** more flags for `hob serve` */
  flags?: readonly string[];
  /** goes before `hob serve`, and runs it in its own place */
  command?: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** an existing folder; default: a new one, removed at the end */
  home?: string;
}

/** A real `hob serve` in a process of its own, on a home of its own. Disposing it checks that nothing of it is left. */
export class TestDaemon implements AsyncDisposable {
  readonly home: string;
  readonly env: Record<string, string>;
  url = "";
  token = "";
  stderr = "";
  readonly #options: DaemonOptions;
  readonly #ownsHome: boolean;
  #process: ReturnType<typeof startHob> | undefined;
  #exited: Promise<number | NodeJS.Signals | null> = Promise.resolve(null);
  #runtimeDirectory: string | undefined;

  private constructor(options: DaemonOptions) {
    this.#options = options;
    this.#ownsHome = options.home === undefined;
    this.home = options.home ?? mkdtempSync(join(tmpdir(), "hob-e2e-"));
    this.env = hobEnvironment(this.home, options.env);
  }

  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const daemon = new TestDaemon(options);
    try {
      await daemon.restart();
      return daemon;
    } catch (error) {
      await daemon.#cleanUp();
      throw error;
    }
  }

  /** Starts `hob serve` on this home once more and waits until it is ready. */
  async restart(): Promise<void> {
    assert.equal(this.#process, undefined, "a daemon of this home runs already");
    // On a slow machine a test may leave a sprite alone for longer than users do: none sleeps unless its test wants that.
    const flags = ["--listen", "127.0.0.1:0", "--idle-timeout", "0", ...(this.#options.flags ?? [])];
    const child = startHob(["serve", "--json", ...flags], this.env, this.#options.command);
    this.#process = child;
    child.stderr.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.#exited = new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal)));
    const { url, token } = JSON.parse(await this.#ready(child)) as { url: string; token: string };
    this.url = url;
    this.token = token;
    this.#runtimeDirectory ??= new RuntimePaths(this.home, join(this.home, "no-cache")).run;
  }

  /** The line that says where it answers. A daemon that does not get so far is gone, and may be started again. */
  async #ready(child: ReturnType<typeof startHob>): Promise<string> {
    try {
      return await Promise.race([
        readLine(child.stdout),
        this.#exited.then((code) => assert.fail(`hob serve ended with ${code} before it was ready: ${this.stderr}`)),
        timeLimit(READY_TIMEOUT_MS, () => `hob serve is not ready after ${READY_TIMEOUT_MS} ms: ${this.stderr}`),
      ]);
    } catch (error) {
      child.kill("SIGKILL");
      await this.#exited;
      this.#process = undefined;
      throw error;
    }
  }

  get pid(): number {
    return this.#process?.pid ?? assert.fail("the daemon does not run");
  }

  /** The published SDK, as a user would set it up. */
  sdk(token = this.token): SpritesClient {
    return new SpritesClient(token, { baseURL: this.url });
  }

  /** Runs the CLI against this home. */
  hob(...args: string[]): Promise<Ended> {
    return runHob(args, this.env);
  }

  /** A plain HTTP request to the API, with the token unless `init` has another. */
  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, { ...init, headers: { authorization: `Bearer ${this.token}`, ...init.headers } });
  }

  create(body: object, headers: Record<string, string> = {}): Promise<Response> {
    return this.fetch("/v1/sprites", { method: "POST", body: JSON.stringify(body), headers });
  }

  /** SIGTERM, and the wait for the end. @returns the exit status */
  async stop(): Promise<number | NodeJS.Signals | null> {
    return this.#end("SIGTERM");
  }

  /** The daemon is gone at once; its VMs stay. */
  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    const child = this.#process;
    assert.ok(child, "the daemon does not run");
    child.kill(signal);
    const code = await Promise.race([
      this.#exited,
      timeLimit(STOP_TIMEOUT_MS, () => `the daemon still runs ${STOP_TIMEOUT_MS} ms after ${signal}`),
    ]);
    this.#process = undefined;
    return code;
  }

  /** Folder of the sockets of this home's VMs. */
  get runtimeDirectory(): string {
    return this.#runtimeDirectory ?? new RuntimePaths(this.home, join(this.home, "no-cache")).run;
  }

  /** QEMU and passt processes of this home's VMs. */
  vmProcesses(program: "qemu" | "passt" | "" = ""): FoundProcess[] {
    return processesNaming(`${this.runtimeDirectory}/`).filter((found) => found.program.startsWith(program));
  }

  /** Folders of sprites on disk. */
  spriteFolders(): string[] {
    return readdirSync(join(this.home, "sprites"));
  }

  /** Ends of the daemon's log and of the consoles: what one wants to see beside a failed test. */
  describe(): string {
    const files = [join(this.home, "hobd.log"), ...globSync(join(this.home, "sprites/*/console.log"))];
    const parts = files.filter((file) => existsSync(file)).map((file) => `── ${file}\n${lastLines(readFileSync(file, "utf8"), 15)}`);
    return [...parts, `── standard error of hob serve\n${lastLines(this.stderr, 15)}`].join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      // After kill -9 only another daemon can take care of the VMs.
      if (this.#process === undefined && this.vmProcesses().length > 0) await this.restart();
      if (this.#process !== undefined) assert.equal(await this.stop(), 0, "exit status of hob serve");
      await until("the VMs are gone", () => this.vmProcesses().length === 0, 2_000).catch(() => {});
      assert.deepEqual(this.vmProcesses(), [], "processes are left");
      assert.ok(!existsSync(this.runtimeDirectory), `${this.runtimeDirectory} is left`);
      assert.deepEqual(
        mountsBelow(this.home).filter((point) => point !== this.home),
        [],
        "mounts are left",
      );
      assert.deepEqual(loopFilesBelow(this.home), [], "loop devices are left");
      assert.deepEqual(processesUsing(this.home), [], "processes are left that use files of the home");
    } finally {
      await this.#cleanUp();
    }
  }

  /** Removes everything, whatever state it is in. */
  async #cleanUp(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#exited;
    for (const { pid } of this.vmProcesses()) process.kill(pid, "SIGKILL");
    rmSync(this.runtimeDirectory, { recursive: true, force: true });
    if (this.#ownsHome) rmSync(this.home, { recursive: true, force: true });
  }
}

function readLine(stream: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => createInterface({ input: stream }).once("line", resolve));
}

/** Rejects in the given time; does not keep the process alive. */
function timeLimit(ms: number, message: () => string): Promise<never> {
  return new Promise((_, reject) => setTimeout(() => reject(new Error(message())), ms).unref());
}
