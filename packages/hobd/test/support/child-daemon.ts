import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { ChildOptions } from "./daemon-child.ts";
import { until } from "./test-daemon.ts";

interface Line {
  call?: string;
  url?: string;
  token?: string;
  code?: string;
  message?: string;
  stopped?: boolean;
}

/** Runs daemon-child.ts. Killed when disposed. */
export class ChildDaemon implements AsyncDisposable {
  readonly lines: Line[] = [];
  readonly exited: Promise<number | NodeJS.Signals | null>;
  readonly #process: ChildProcess;

  constructor(options: ChildOptions) {
    const script = fileURLToPath(new URL("daemon-child.ts", import.meta.url));
    this.#process = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#process.stdout ?? assert.fail() }).on("line", (line) => this.lines.push(JSON.parse(line)));
    this.exited = new Promise((resolve) => this.#process.once("close", (code, signal) => resolve(code ?? signal)));
  }

  static async start(options: ChildOptions): Promise<ChildDaemon> {
    const child = new ChildDaemon(options);
    await until(
      "the daemon is up or has failed",
      () => child.lines.some(({ url, code }) => url !== undefined || code !== undefined),
      15_000,
    );
    return child;
  }

  get up(): { url: string; token: string } {
    const { url = assert.fail("it is not up"), token = "" } = this.lines.find((line) => line.url !== undefined) ?? {};
    return { url, token };
  }

  get pid(): number {
    return this.#process.pid ?? assert.fail("it did not start");
  }

  get calls(): string[] {
    return this.lines.flatMap(({ call }) => call ?? []);
  }

  /** Resident memory, bytes; proc_pid_status(5). */
  get rssBytes(): number {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1]) * 1024;
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const { url, token } = this.up;
    return fetch(`${url}${path}`, { ...init, headers: { Authorization: `Bearer ${token}` } });
  }

  create(name: string): Promise<Response> {
    return this.fetch("/v1/sprites", { method: "POST", body: JSON.stringify({ name }) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.exited;
  }
}
