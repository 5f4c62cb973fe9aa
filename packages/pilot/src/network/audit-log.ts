import { appendFile, mkdir, readFile, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { NetworkLogEntry } from "@hob/protocol";

/** Two files of this size are kept. */
const FILE_BYTES_MAX = 1024 * 1024;
/** More than this in a second is counted, not kept: what a sprite does must not fill its own memory or disk. */
const ENTRIES_PER_SECOND = 100;
const FLUSH_MS = 500;
/** A name asked for again within this time is not written again. */
const REPEAT_MS = 60_000;
const REPEATS_MAX = 2_048;

type Entry = Omit<NetworkLogEntry, "time">;

/** Decisions of the network policy, on this machine's part of the volume; bounded in size and rate. */
export class AuditLog {
  readonly #file: string;
  readonly #now: () => number;
  readonly #recent = new Map<string, number>();
  readonly #listeners = new Set<(line: string) => void>();
  #pending: string[] = [];
  #second = 0;
  #inSecond = 0;
  #suppressed = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  /** @param now Unix milliseconds */
  constructor(file: string, now: () => number = Date.now) {
    this.#file = file;
    this.#now = now;
  }

  record(entry: Entry): void {
    const now = this.#now();
    if (entry.type !== "policy" && (this.#isRepetition(entry, now) || this.#isTooMuch(now))) return;
    this.#add(entry, now);
  }

  /** The newest entries as lines without their ends, oldest first. */
  async tail(count: number): Promise<string[]> {
    await this.flush();
    const texts = await Promise.all([`${this.#file}.1`, this.#file].map((file) => readFile(file, "utf8").catch(() => "")));
    const all = texts
      .join("")
      .split("\n")
      .filter((line) => line !== "");
    return count === 0 ? [] : all.slice(-count);
  }

  /** Tells of every new entry. @returns what ends it */
  subscribe(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Writes what is pending. A log that cannot be written is no reason to stop: the entries are dropped. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#suppressed > 0) {
      const count = this.#suppressed;
      this.#suppressed = 0;
      this.#add({ type: "suppressed", count }, this.#now());
    }
    const text = this.#pending.map((line) => `${line}\n`).join("");
    this.#pending = [];
    if (text !== "") this.#writing = this.#writing.then(() => this.#write(text)).catch(() => {});
    return this.#writing;
  }

  #add(entry: Entry, now: number): void {
    const line = JSON.stringify({ time: new Date(now).toISOString(), ...entry });
    this.#pending.push(line);
    for (const listener of this.#listeners) listener(line);
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
  }

  #isRepetition({ type, name, query, action, protocol, address, port }: Entry, now: number): boolean {
    const key = JSON.stringify([type, name, query, action, protocol, address, port]);
    const last = this.#recent.get(key);
    if (last !== undefined && now - last < REPEAT_MS) return true;
    this.#recent.delete(key);
    this.#recent.set(key, now);
    const [oldest] = this.#recent.keys();
    if (this.#recent.size > REPEATS_MAX && oldest !== undefined) this.#recent.delete(oldest);
    return false;
  }

  #isTooMuch(now: number): boolean {
    const second = Math.floor(now / 1_000);
    if (second !== this.#second) [this.#second, this.#inSecond] = [second, 0];
    if (this.#inSecond++ < ENTRIES_PER_SECOND) return false;
    this.#suppressed++;
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
    return true;
  }

  async #write(text: string): Promise<void> {
    await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 });
    const { size } = await stat(this.#file).catch(() => ({ size: 0 }));
    if (size > 0 && size + Buffer.byteLength(text) > FILE_BYTES_MAX) await rename(this.#file, `${this.#file}.1`);
    await appendFile(this.#file, text, { mode: 0o600 });
  }
}
