import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { HobError } from "@hob/protocol";
import { z } from "zod";

/** Ids of thin devices have 24 bits; thin-provisioning.rst. */
const THIN_ID_MAX = 2 ** 24 - 1;
const RESERVED_AT_ONCE = 8;
const thinId = z.number().int().min(0).max(THIN_ID_MAX);

const checkpointRecord = z.strictObject({
  id: z.string(),
  thin: thinId,
  /** RFC 3339 */
  createTime: z.string(),
  comment: z.string(),
  /** the checkpoints that its state derives from, nearest first; they may be gone */
  history: z.array(z.string()),
  automatic: z.boolean(),
  /** why an automatic one was taken */
  reason: z.string().nullable(),
  /** name of what its blocks are read from as long as they were never written; null: nothing */
  origin: z.string().nullable(),
});
export type CheckpointRecord = z.infer<typeof checkpointRecord>;

const ledgerState = z.strictObject({
  format: z.literal(1),
  /** where free numbers of thin devices are looked for; after the last possible one the first comes again */
  nextThin: thinId,
  /** numbers of the next `v…` and the next `auto-…`; none is ever used twice */
  nextVersion: z.number().int().min(1),
  nextAutomatic: z.number().int().min(1),
  /** the volume in use, and the checkpoints that its state derives from, nearest first */
  live: z.strictObject({ thin: thinId, history: z.array(z.string()), origin: z.string().nullable() }),
  /** the automatic checkpoint of the state before the last restore */
  undo: z.string().nullable(),
  /** oldest first */
  checkpoints: z.array(checkpointRecord),
  /** the map of the object store that the sprite was put over when it came to this machine; null: it began here */
  basis: z.string().nullable(),
  /**
   * the state that the object store has: its snapshot (null: given up for its space), what that reads from where it was never
   * written, and its map there
   */
  uploaded: z.strictObject({ thin: thinId.nullable(), origin: z.string().nullable(), root: z.string().nullable() }).nullable(),
  /** snapshot that is being uploaded */
  uploading: thinId.nullable(),
  /** thin devices that are being made or removed: whatever is here when the pilot starts belongs to nothing */
  pending: z.array(thinId),
});
export type LedgerState = z.infer<typeof ledgerState>;

export const initialState: LedgerState = {
  format: 1,
  nextThin: 1,
  nextVersion: 1,
  nextAutomatic: 1,
  live: { thin: 0, history: [], origin: null },
  undo: null,
  checkpoints: [],
  basis: null,
  uploaded: null,
  uploading: null,
  pending: [],
};

/**
 * What is on the pool and what it means: the one record that decides, after any crash, which volume is the sprite's and
 * which checkpoints there are. Each change is written whole and is either there or not. `docs/formats/disk-layout.md`
 */
export class Ledger {
  readonly #path: string;
  #state: LedgerState;
  /** numbers that are pending on disk and not given out yet: most reservations need no write of their own */
  readonly #spare: number[] = [];
  /** pending numbers that somebody is still working on, or may get */
  readonly #held = new Set<number>();
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(path: string, state: LedgerState) {
    this.#path = path;
    this.#state = state;
  }

  /** Begins a new one. */
  static async create(path: string): Promise<Ledger> {
    const ledger = new Ledger(path, initialState);
    await ledger.#write(initialState);
    return ledger;
  }

  /** @throws HobError `volume_unusable` */
  static async open(path: string): Promise<Ledger> {
    try {
      return new Ledger(path, ledgerState.parse(JSON.parse(await readFile(path, "utf8"))));
    } catch (cause) {
      throw new HobError("volume_unusable", "read the record of the sprite's volumes: it is missing or damaged", { cause });
    }
  }

  get state(): Readonly<LedgerState> {
    return this.#state;
  }

  find(id: string): CheckpointRecord | undefined {
    return this.#state.checkpoints.find((checkpoint) => checkpoint.id === id);
  }

  /** Replaces the state; what `change` returns is on disk when this returns. One after the other. */
  update(change: (state: LedgerState) => LedgerState): Promise<void> {
    const work = async () => {
      const next = change(this.#state);
      try {
        await this.#write(next);
      } catch (error) {
        // It may have reached the disk all the same. What the disk says and what this process does must not differ.
        await this.#write(this.#state);
        throw error;
      }
      this.#state = next;
      // What an update has found a place for is nobody's work any more; should it become pending again, it is garbage.
      for (const thin of this.#held) if (!next.pending.includes(thin)) this.#held.delete(thin);
    };
    const result = this.#queue.then(work, work);
    this.#queue = result.catch(() => {});
    return result;
  }

  /**
   * A number for a new thin device, pending on disk. It is nobody else's until `release`; an update says what it
   * belongs to, or `garbage` lists it.
   */
  async reserveThin(): Promise<number> {
    if (this.#spare.length === 0) await this.#reserveMore();
    const thin = this.#spare.shift();
    if (thin === undefined) throw new Error("no number for a thin device after more were reserved");
    return thin;
  }

  /** Keeps a number that is pending from being garbage; call it in the update that makes it so. */
  hold(thin: number): void {
    this.#held.add(thin);
  }

  release(thin: number): void {
    this.#held.delete(thin);
  }

  /** Pending numbers that nobody works on: thin devices that belong to nothing. */
  garbage(): number[] {
    return this.#state.pending.filter((thin) => !this.#held.has(thin));
  }

  async #reserveMore(): Promise<void> {
    let more: number[] = [];
    await this.update((state) => {
      const used = new Set(thinsOf(state));
      let nextThin = state.nextThin;
      more = [];
      for (; more.length < RESERVED_AT_ONCE; nextThin = nextThin === THIN_ID_MAX ? 0 : nextThin + 1) {
        if (!used.has(nextThin)) more.push(nextThin);
      }
      // Not only when the update is known to be over: whoever looks for garbage in between must not find them.
      for (const thin of more) this.#held.add(thin);
      return { ...state, nextThin, pending: [...state.pending, ...more] };
    });
    this.#spare.push(...more);
  }

  /** rename(2) replaces the old file at once; both it and the content must be on disk before anybody relies on it. */
  async #write(state: LedgerState): Promise<void> {
    const temporary = `${this.#path}.new`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify(state));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.#path);
    const directory = await open(dirname(this.#path), "r");
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }
}

/** All thin devices that it speaks of. */
const thinsOf = ({ live, checkpoints, uploaded, uploading, pending }: LedgerState): number[] =>
  [live.thin, ...checkpoints.map(({ thin }) => thin), uploaded?.thin ?? null, uploading, ...pending].filter((thin) => thin !== null);

/** `pending` without these. */
export const settle = (state: LedgerState, ...thins: readonly number[]): number[] => state.pending.filter((thin) => !thins.includes(thin));
