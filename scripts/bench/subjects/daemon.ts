import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { type Sprite, SpritesClient } from "@fly/sprites";
import { RuntimePaths } from "@hob/hobd/runtime/paths.ts";
import { type FoundProcess, processesNaming } from "../../../test/e2e/support/processes.ts";
import { PROJECT } from "../../lib/steps.ts";
import type { BenchContext } from "../part.ts";

/** The start may have to build the pilot's image. */
const READY_TIMEOUT_MS = 240_000;
const STOP_TIMEOUT_MS = 60_000;
const REQUEST_TIMEOUT_MS = 240_000;

export interface BenchDaemonOptions {
  /** one that was paused; default: a new one, removed at the end */
  home?: string;
  /** default: in the home */
  store?: string;
}

export interface CheckpointLine {
  type: string;
  error?: string;
  id?: string;
  pauseMs?: number;
  /** what it consisted of, for some */
  steps?: readonly { name: string; ms: number }[];
}

/** A real daemon in a process and a home of its own, and the official SDK as its client. Sprites sleep when they are told to. */
export class BenchDaemon {
  readonly client: SpritesClient;
  readonly home: string;
  readonly url: string;
  readonly token: string;
  readonly #process: ChildProcess;

  private constructor(home: string, child: ChildProcess, { url, token }: { url: string; token: string }) {
    this.home = home;
    this.url = url;
    this.token = token;
    this.#process = child;
    this.client = new SpritesClient(token, { baseURL: url });
  }

  static async start(context: BenchContext, { home, store }: BenchDaemonOptions = {}): Promise<BenchDaemon> {
    context.progress("starting a daemon");
    const folder = home ?? (await makeHome(context));
    const flags = [
      "--listen",
      "127.0.0.1:0",
      "--idle-timeout",
      "0",
      "--home",
      folder,
      ...(store === undefined ? [] : ["--store", `dir:${store}`]),
    ];
    const child = spawn(process.execPath, [join(PROJECT, "bin/hob"), "serve", "--json", ...flags], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    context.defer(() => end(child, folder));
    const lines = createInterface({ input: child.stdout });
    const signal = AbortSignal.timeout(READY_TIMEOUT_MS);
    const [line] = (await Promise.race([
      once(lines, "line", { signal }),
      once(child, "exit", { signal }).then(([code]) => {
        throw new Error(`hob serve ended with ${code} before it was ready`);
      }),
    ])) as [string];
    return new BenchDaemon(folder, child, JSON.parse(line) as { url: string; token: string });
  }

  sprite(name: string): Sprite {
    return this.client.sprite(name);
  }

  /** Creates a sprite and waits until the template's first fork has paid for what all later ones share. */
  async create(name: string): Promise<Sprite> {
    const sprite = await this.client.createSprite(name);
    await sprite.execFile("true");
    return sprite;
  }

  /** A request of the API that the SDK has no method for. */
  async request<T>(method: "GET" | "POST" | "DELETE", path: string, body?: object): Promise<T> {
    const text = await this.text(method, path, body);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  async text(method: "GET" | "POST" | "DELETE", path: string, body?: object): Promise<string> {
    return (await this.#fetch(method, path, body)).text();
  }

  /** Reads a body to its end and keeps nothing of it. @returns bytes */
  async drain(path: string): Promise<number> {
    let bytes = 0;
    for await (const chunk of (await this.#fetch("GET", path)).body ?? []) bytes += chunk.length;
    return bytes;
  }

  /** The last line of a stream such as those of checkpoints. @throws when it does not say that all went well */
  async lastLine(path: string, body?: object): Promise<CheckpointLine> {
    const lines = (await this.text("POST", path, body)).trimEnd().split("\n");
    const last = JSON.parse(lines.at(-1) ?? "{}") as CheckpointLine;
    if (last.type !== "complete") throw new Error(`POST ${path}: ${last.error ?? "no last line"}`);
    return last;
  }

  async #fetch(method: string, path: string, body?: object): Promise<Response> {
    const response = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${this.token}` },
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  async residentMb(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1024;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** The VMMs of this daemon's sprites. */
  vms(): FoundProcess[] {
    return vmProcesses(this.home).filter(({ program }) => program.startsWith("qemu"));
  }

  /** Ends the daemon and leaves its home. */
  async pause(): Promise<void> {
    await end(this.#process, this.home);
  }
}

async function makeHome(context: BenchContext): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), "hob-bench-"));
  context.defer(() => rm(home, { recursive: true, force: true }));
  return home;
}

const runtimeFolder = (home: string): string => new RuntimePaths(home, join(home, "no-cache")).run;

const vmProcesses = (home: string): FoundProcess[] => processesNaming(`${runtimeFolder(home)}/`);

/** In good order, else by force; a daemon that had to be killed leaves its VMs behind. */
async function end(child: ChildProcess, home: string): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  const timer = new AbortController();
  const late = sleep(STOP_TIMEOUT_MS, "late", { signal: timer.signal }).catch(() => "");
  const outcome = await Promise.race([gone, late]);
  timer.abort();
  if (outcome !== "late") return;
  child.kill("SIGKILL");
  await gone;
  for (const { pid } of vmProcesses(home)) process.kill(pid, "SIGKILL");
  await rm(runtimeFolder(home), { recursive: true, force: true });
}
