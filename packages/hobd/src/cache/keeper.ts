import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { type ImageSet, markUsed } from "@hob/images";
import type { Logger } from "pino";
import { noteHome } from "./homes.ts";
import { pruneCache } from "./prune.ts";

/** Milliseconds between two rounds. */
const INTERVAL_MS = 6 * 60 * 60_000;

export interface CacheKeeperParts {
  cacheDir: string;
  home: string;
  /** those of this daemon, which it needs for as long as it lives */
  images: Pick<ImageSet, "kernel" | "initramfs" | "rootNamespace" | "pilot" | "systemBase" | "platform" | "languages" | "components">;
  /** see PruneOptions */
  keepMs: number;
  /** called before each round */
  beforeRound: () => void;
  log: Logger;
}

/**
 * One daemon's part in keeping the cache small. It holds its images open, which shows other processes that they are in use,
 * and marks them now and then, for those that do not see its files; and it removes what nobody needs.
 */
export class CacheKeeper {
  readonly #parts: CacheKeeperParts;
  readonly #held: number[];
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(parts: CacheKeeperParts) {
    this.#parts = parts;
    const { kernel, initramfs, rootNamespace, pilot, systemBase, platform, languages } = parts.images;
    this.#held = [kernel, initramfs, rootNamespace, pilot, systemBase, platform, languages].map((path) => openSync(path, "r"));
  }

  /**
   * Begins the first round, which nobody has to wait for. A daemon whose home is not known to others runs all the same, but asks nobody
   * to give up what they need.
   */
  async start(): Promise<void> {
    const { cacheDir, home, log } = this.#parts;
    try {
      await noteHome(cacheDir, home);
    } catch (error) {
      log.warn({ err: error }, "the cache is not pruned: this home cannot be noted in it");
      return;
    }
    if (this.#stopped) return;
    this.#timer = setInterval(() => this.#begin(), INTERVAL_MS);
    this.#timer.unref();
    this.#begin();
  }

  /** Ends after the removal that is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#round;
    for (const descriptor of this.#held.splice(0)) closeSync(descriptor);
  }

  #begin(): void {
    this.#round = this.#round.then(() => this.#run()).catch((error: unknown) => this.#parts.log.warn({ err: error }, "cache not pruned"));
  }

  async #run(): Promise<void> {
    const { cacheDir, images, keepMs, beforeRound, log } = this.#parts;
    if (this.#stopped) return;
    for (const name of images.components) markUsed(join(cacheDir, "images"), name);
    beforeRound();
    const { removed } = await pruneCache(cacheDir, { keepMs, stopped: () => this.#stopped });
    if (removed.length === 0) return;
    const bytes = removed.reduce((sum, entry) => sum + entry.bytes, 0);
    log.info({ removed: removed.map(({ name }) => name), bytes }, "removed from the cache what nobody needs");
  }
}
