import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Sprite, SpritesClient } from "@fly/sprites";
import { createRuntime, type MachineSpec, type PilotEndpoint, type SpriteRuntime } from "@hob/hobd";
import { SpriteStorage } from "@hob/hobd/object-store/sprite-storage.ts";
import { buildImages } from "@hob/images";
import { type Identity, MACHINE_LIMITS } from "@hob/protocol";
import { openStore } from "@hob/storage/store/open-store.ts";
import { pino } from "pino";
import { PROJECT } from "../lib/steps.ts";

export const MACHINE: MachineSpec = {
  cpus: MACHINE_LIMITS.cpus.default,
  ramMb: MACHINE_LIMITS.ramMb.default,
  storageGb: MACHINE_LIMITS.storageGb.default,
};

export async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** A real daemon in a process and a home of its own, and the official SDK as its client. */
export class BenchDaemon {
  readonly client: SpritesClient;
  readonly home: string;
  readonly #process: ChildProcess;
  readonly #url: string;
  readonly #token: string;

  private constructor(home: string, child: ChildProcess, { url, token }: { url: string; token: string }) {
    this.home = home;
    this.#process = child;
    this.#url = url;
    this.#token = token;
    this.client = new SpritesClient(token, { baseURL: url });
  }

  /** @param home one that was paused; default: a new one. Sprites sleep when they are told to. */
  static async start(home?: string): Promise<BenchDaemon> {
    home ??= await mkdtemp(join(tmpdir(), "hob-bench-"));
    const argv = [join(PROJECT, "bin/hob"), "serve", "--json", "--listen", "127.0.0.1:0", "--idle-timeout", "0", "--home", home];
    const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: child.stdout })) {
      return new BenchDaemon(home, child, JSON.parse(line) as { url: string; token: string });
    }
    throw new Error("the daemon ended before it was ready");
  }

  sprite(name: string): Sprite {
    return this.client.sprite(name);
  }

  /** A request of the API that the SDK has no method for. */
  async request(method: "GET" | "POST", path: string): Promise<unknown> {
    return (await this.#fetch(method, path)).json();
  }

  async text(method: "GET" | "POST", path: string): Promise<string> {
    return (await this.#fetch(method, path)).text();
  }

  /** Reads a body to its end and keeps nothing of it. */
  async drain(path: string): Promise<void> {
    const response = await this.#fetch("GET", path);
    for await (const _chunk of response.body ?? []);
  }

  async #fetch(method: "GET" | "POST", path: string): Promise<Response> {
    const response = await fetch(this.#url + path, {
      method,
      headers: { authorization: `Bearer ${this.#token}` },
      signal: AbortSignal.timeout(120_000),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  async residentMb(): Promise<number> {
    const status = await readFile(`/proc/${this.#process.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1024;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Ends the daemon and leaves its home. */
  async pause(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGTERM");
    await gone;
  }

  async stop(): Promise<void> {
    await this.pause();
    await rm(this.home, { recursive: true, force: true });
  }
}

/** The runtime by itself, for what lies below the API. */
export class BenchRuntime {
  readonly #home: string;
  #runtime: SpriteRuntime;

  private constructor(home: string, runtime: SpriteRuntime) {
    this.#home = home;
    this.#runtime = runtime;
  }

  static async start(): Promise<BenchRuntime> {
    const home = await mkdtemp(join(tmpdir(), "hob-bench-"));
    return new BenchRuntime(home, await open(home));
  }

  get runtime(): SpriteRuntime {
    return this.#runtime;
  }

  /** As a restarted daemon finds it. */
  async reopen(): Promise<void> {
    this.#runtime = await open(this.#home);
  }

  async stop(): Promise<void> {
    await this.#runtime.recover([]);
    await rm(this.#home, { recursive: true, force: true });
  }
}

async function open(home: string): Promise<SpriteRuntime> {
  const images = await buildImages();
  const events = { building: () => {}, built: () => {} };
  const log = pino({ level: "silent" });
  const store = await openStore(`dir:${join(home, "store")}`, {});
  const storage = new SpriteStorage({ store, organization: "hob", owner: "bench", log });
  return createRuntime({ home, images, events, storage, log, prepare: false });
}

export const newIdentity = (): Identity => ({
  id: `sprite-${randomUUID()}`,
  name: "bench",
  organization: "hob",
  url: "http://bench.sprites.localhost",
  machineId: randomBytes(16).toString("hex"),
  pilotToken: randomBytes(32).toString("hex"),
  environment: {},
});

/** One request to a pilot, past the daemon. */
export async function askPilot({ host, port, token }: PilotEndpoint, method: "GET" | "POST", path: string): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, connection: "close" };
  const response = await fetch(`http://${host}:${port}${path}`, { method, headers, signal: AbortSignal.timeout(120_000) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
  return response;
}

export const directSprite = ({ host, port, token }: PilotEndpoint): Sprite =>
  new SpritesClient(token, { baseURL: `http://${host}:${port}` }).sprite("bench");
