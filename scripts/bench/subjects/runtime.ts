import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Sprite, SpritesClient } from "@fly/sprites";
import { createRuntime, type PilotEndpoint, type SpriteRuntime } from "@hob/hobd";
import { SpriteStorage } from "@hob/hobd/object-store/sprite-storage.ts";
import { buildImages } from "@hob/images";
import { openStore } from "@hob/storage/store/open-store.ts";
import { pino } from "pino";
import type { BenchContext } from "../part.ts";

/** The runtime by itself, for what lies below the API. */
export class BenchRuntime {
  readonly home: string;
  #runtime: SpriteRuntime;

  private constructor(home: string, runtime: SpriteRuntime) {
    this.home = home;
    this.#runtime = runtime;
  }

  static async start(context: BenchContext): Promise<BenchRuntime> {
    const home = await mkdtemp(join(tmpdir(), "hob-bench-"));
    context.defer(() => rm(home, { recursive: true, force: true }));
    const bench = new BenchRuntime(home, await open(home));
    // A runtime that is to recover no sprites ends all VMs that it finds.
    context.defer(() => bench.#runtime.recover([]).then(() => {}));
    return bench;
  }

  get runtime(): SpriteRuntime {
    return this.#runtime;
  }

  /** As a restarted daemon finds it. */
  async reopen(): Promise<void> {
    this.#runtime = await open(this.home);
  }
}

async function open(home: string): Promise<SpriteRuntime> {
  const images = await buildImages();
  const events = { building: () => {}, built: () => {} };
  const log = pino({ level: "silent" });
  const store = await openStore(`dir:${join(home, "store")}`, {});
  const storage = new SpriteStorage({ store, organization: "hob", owner: "bench", log });
  return createRuntime({ home, images, cacheKeepMs: Number.POSITIVE_INFINITY, events, storage, log, prepare: false });
}

/** One request to a pilot, past the daemon. */
export async function askPilot({ host, port, token }: PilotEndpoint, method: "GET" | "POST", path: string): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, connection: "close" };
  const response = await fetch(`http://${host}:${port}${path}`, { method, headers, signal: AbortSignal.timeout(120_000) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
  return response;
}

export const directSprite = ({ host, port, token }: PilotEndpoint): Sprite =>
  new SpritesClient(token, { baseURL: `http://${host}:${port}` }).sprite("bench");
