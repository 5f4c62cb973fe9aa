import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LIMITS } from "@hob/protocol";
import { z } from "zod";
import { JOURNAL_LIMITS, Journal, type JournalLimits } from "./journal.ts";

/** Ids that are set aside on disk at once: so many sessions need no further write. */
const IDS_RESERVED = 1_000;
const IDS_FILE = "ids.json";
const ABOUT_FILE = "session.json";

/** What is known of a session beside its output. */
const about = z.object({
  command: z.string(),
  workdir: z.string(),
  created: z.number(),
  tty: z.object({ cols: z.number(), rows: z.number() }).optional(),
});
export type AboutSession = z.infer<typeof about>;

/** A session that a pilot before this one had. */
export interface LeftSession {
  readonly id: string;
  readonly about: AboutSession;
  readonly journal: Journal;
}

export interface StoreOptions {
  readonly limits?: JournalLimits;
  /** all files together */
  readonly totalBytes?: number;
}

/**
 * The journals of all sessions, a folder for each below one folder, and the ids, which are never used twice: a client
 * that comes back after a restart must not find another session under the id that it knows.
 */
export class JournalStore {
  readonly #directory: string;
  readonly #limits: JournalLimits;
  readonly #totalBytes: number;
  readonly #journals = new Map<string, Journal>();
  #lastId = 0;
  #reservedId = 0;
  #reserving: Promise<void> = Promise.resolve();
  #isEvicting = false;

  constructor(directory: string, options: StoreOptions = {}) {
    this.#directory = directory;
    this.#limits = options.limits ?? JOURNAL_LIMITS;
    this.#totalBytes = options.totalBytes ?? LIMITS.journalsBytes;
  }

  /** size of all files */
  get diskBytes(): number {
    let sum = 0;
    for (const journal of this.#journals.values()) sum += journal.diskBytes;
    return sum;
  }

  /**
   * Finds what a predecessor left. What is older, or cannot be read, is removed.
   * @param keepMs age of the last write that is still kept
   */
  async open(keepMs: number): Promise<LeftSession[]> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    this.#lastId = await readReserved(join(this.#directory, IDS_FILE));
    const left: LeftSession[] = [];
    for (const entry of await readdir(this.#directory, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const path = join(this.#directory, entry.name);
      const found = await recoverSession(path, keepMs, this.#limits).catch(() => undefined);
      if (found === undefined) await rm(path, { recursive: true, force: true });
      else {
        left.push({ id: entry.name, ...found });
        this.#journals.set(entry.name, found.journal);
        this.#lastId = Math.max(this.#lastId, Number(entry.name) || 0);
      }
    }
    await this.#reserve();
    return left;
  }

  /** Ids are decimal strings, as clients decode them as strings and use them in paths. */
  nextId(): string {
    this.#lastId += 1;
    // Long before they run out; a disk that cannot take it costs the promise, not the session.
    if (this.#lastId + IDS_RESERVED / 2 > this.#reservedId) this.#reserve().catch(() => {});
    return String(this.#lastId);
  }

  /** The journal of a new session; it is on disk from its first written byte on. */
  create(id: string, session: AboutSession): Journal {
    const directory = join(this.#directory, id);
    const journal = new Journal(directory, this.#limits, () =>
      writeFile(join(directory, ABOUT_FILE), JSON.stringify(session), { mode: 0o600 }),
    );
    this.#journals.set(id, journal);
    return journal;
  }

  async remove(id: string): Promise<void> {
    const journal = this.#journals.get(id);
    this.#journals.delete(id);
    await journal?.remove();
  }

  /**
   * Makes room when all together are too large: sessions that have ended lose their output first, the oldest before the
   * newer, then the largest of those that run loses its oldest part. What somebody is to read stays.
   */
  async keepWithinBudget(): Promise<void> {
    if (this.#isEvicting) return;
    this.#isEvicting = true;
    try {
      while (this.diskBytes > this.#totalBytes && (await this.#evictOne())) {}
    } finally {
      this.#isEvicting = false;
    }
  }

  async #evictOne(): Promise<boolean> {
    const all = [...this.#journals.values()].filter(({ diskBytes }) => diskBytes > 0);
    const ended = all.find((journal) => journal.exitCode !== undefined && journal.pinned() === Number.POSITIVE_INFINITY);
    if (ended !== undefined) {
      await ended.remove();
      return true;
    }
    for (const journal of all.sort((a, b) => b.diskBytes - a.diskBytes)) if (await journal.dropOldest()) return true;
    return false;
  }

  /** One write after the other. */
  #reserve(): Promise<void> {
    const reserved = this.#lastId + IDS_RESERVED;
    this.#reservedId = reserved;
    const path = join(this.#directory, IDS_FILE);
    const write = async () => {
      await writeFile(`${path}.new`, JSON.stringify({ reserved }), { mode: 0o600, flush: true });
      await rename(`${path}.new`, path);
    };
    this.#reserving = this.#reserving.then(write, write);
    return this.#reserving;
  }
}

async function readReserved(path: string): Promise<number> {
  const text = await readFile(path, "utf8").catch(() => "{}");
  try {
    return z.object({ reserved: z.number().int().min(0) }).parse(JSON.parse(text)).reserved;
  } catch {
    return 0;
  }
}

async function recoverSession(path: string, keepMs: number, limits: JournalLimits): Promise<Omit<LeftSession, "id"> | undefined> {
  if (Date.now() - (await stat(path)).mtimeMs > keepMs) return undefined;
  const known = about.parse(JSON.parse(await readFile(join(path, ABOUT_FILE), "utf8")));
  return { about: known, journal: await Journal.recover(path, limits) };
}
