import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import { Semaphore } from "../util/concurrency.ts";

/** A holder compares, renames and syncs a folder: one that takes longer than this is stuck on its disk. */
const PATIENCE_MS = 30_000;

/**
 * Mutual exclusion between processes on one machine, given back by the kernel when the holder dies, however it does. Node
 * has no binding for file locks; SQLite takes them for a transaction that writes nothing.
 */
export class DirectoryLock {
  readonly #path: string;
  readonly #inProcess = new Semaphore(1);
  #database: DatabaseSync | undefined;
  /** of the file that is open */
  #inode: number | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** @throws HobError `store_unavailable` when another process does not give it back, and what `work` throws */
  async run<R>(work: () => Promise<R>): Promise<R> {
    return await this.#inProcess.run(async () => {
      const database = this.#open();
      await this.#begin(database);
      try {
        return await work();
      } finally {
        database.exec("ROLLBACK");
      }
    });
  }

  /** A file that was replaced since, with its folder, excludes nobody any more: others open the new one. */
  #open(): DatabaseSync {
    if (this.#database !== undefined && this.#inode === this.#present()) return this.#database;
    this.close();
    try {
      this.#database = new DatabaseSync(this.#path, { timeout: 0 });
    } catch (cause) {
      throw new HobError("store_failed", `cannot open ${this.#path}: ${messageOf(cause)}`, { cause });
    }
    this.#inode = this.#present();
    return this.#database;
  }

  #present(): number | undefined {
    return statSync(this.#path, { throwIfNoEntry: false })?.ino;
  }

  async #begin(database: DatabaseSync): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
      try {
        database.exec("BEGIN IMMEDIATE");
        return;
      } catch (cause) {
        if (!isBusy(cause)) throw new HobError("store_failed", `cannot lock ${this.#path}: ${messageOf(cause)}`, { cause });
        if (Date.now() > deadline)
          throw new HobError("store_unavailable", `another process holds ${this.#path} for more than ${PATIENCE_MS / 1000} s`, { cause });
        await delay(Math.random() * pauseMs);
      }
    }
  }

  close(): void {
    this.#database?.close();
    this.#database = undefined;
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** SQLITE_BUSY, https://sqlite.org/rescode.html#busy */
const isBusy = (error: unknown): boolean => error instanceof Error && "errcode" in error && error.errcode === 5;
