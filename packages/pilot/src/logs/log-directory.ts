import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { LogCursor, LogsPullResponse } from "@hob/protocol";
import { LogFile, ROTATION, type RotationLimits } from "./log-file.ts";
import { readSince } from "./log-tail.ts";
import { WriteQueue } from "./write-queue.ts";

/** Logs that are kept of services that are no more. */
const ORPHANS_MAX = 32;

const LOG_NAME = /^(.+)\.log(\.\d+)?$/;

/** The folder of all services' logs. */
export class LogDirectory {
  readonly #directory: string;
  readonly #limits: RotationLimits;
  readonly #queue = new WriteQueue();
  readonly #files = new Map<string, LogFile>();
  readonly #waiting = new Set<() => void>();

  /** @param directory is made when it is needed; users of the sprite see it */
  constructor(directory: string, limits: RotationLimits = ROTATION) {
    this.#directory = directory;
    this.#limits = limits;
  }

  async prepare(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o755 });
  }

  /** The log of a service, the same object each time. */
  log(service: string): LogFile {
    const known = this.#files.get(service);
    if (known !== undefined) return known;
    const file = new LogFile(join(this.#directory, `${service}.log`), this.#queue, this.#limits, this.#wake);
    this.#files.set(service, file);
    return file;
  }

  /**
   * Lines since a cursor, of all logs, as much as one answer holds; and the cursor behind them. What was rotated away
   * meanwhile is left out.
   */
  readSince(cursor: LogCursor): Promise<LogsPullResponse> {
    return this.#queue.run(() => readSince(this.#directory, this.#limits.files, cursor));
  }

  /** Settles when something was written, or after a while. */
  async somethingNew(waitMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, waitMs);
    this.#waiting.add(resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
  }

  readonly #wake = (): void => {
    for (const wake of this.#waiting) wake();
  };

  /** The service is no more; its log stays on the disk. */
  async release(service: string): Promise<void> {
    const file = this.#files.get(service);
    this.#files.delete(service);
    await file?.close();
  }

  /** Writes everything that waits and lets go of all files. */
  async close(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.close()));
  }

  /** Removes the oldest logs of services that are no more, so that names used once do not fill the disk. */
  async prune(services: ReadonlySet<string>): Promise<void> {
    const names = (await readdir(this.#directory)).flatMap((name) => LOG_NAME.exec(name)?.[1] ?? []);
    const orphans = [...new Set(names)].filter((name) => !services.has(name));
    if (orphans.length <= ORPHANS_MAX) return;
    const dated = await Promise.all(orphans.map(async (name) => ({ name, newest: await this.#newest(name) })));
    dated.sort((a, b) => b.newest - a.newest);
    for (const { name } of dated.slice(ORPHANS_MAX)) await this.#remove(name);
  }

  async #newest(service: string): Promise<number> {
    return (await stat(join(this.#directory, `${service}.log`)).catch(() => undefined))?.mtimeMs ?? 0;
  }

  async #remove(service: string): Promise<void> {
    for (let age = 0; age < this.#limits.files; age++) {
      await rm(join(this.#directory, age === 0 ? `${service}.log` : `${service}.log.${age}`), { force: true });
    }
  }
}
