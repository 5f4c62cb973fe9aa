import { type Checkpoint, type CheckpointFilter, CURRENT, checkpointNotFound, HobError, selectCheckpoints } from "@hob/protocol";
import { type Step, timed } from "../container/container.ts";
import { type CheckpointRecord, type LedgerState, settle } from "../volume/ledger.ts";
import { NewestShown } from "./newest.ts";
import type { CheckpointParts } from "./parts.ts";
import { presentCheckpoint, presentCurrent } from "./present.ts";
import { superfluous } from "./retention.ts";
import { Room } from "./room.ts";
import { Turns } from "./turns.ts";

/** Why an automatic checkpoint is taken. */
export type AutomaticReason = "hourly" | "restore" | "sleep";

/** For how long after a restore uploads stay paused: what its user starts first shall not have to share the processor. */
const UPLOADS_PAUSED_AFTER_MS = 2_000;

/** Ancestors that a checkpoint names. */
const HISTORY_MAX = 100;

export interface Taken {
  readonly checkpoint: CheckpointRecord;
  /** how long the sprite's files stood still, milliseconds */
  readonly pauseMs: number;
}

export interface Restored {
  /** the automatic checkpoint of the state before */
  readonly undoId: string;
  /** how long what took; the first two happen at the same time */
  readonly steps: readonly Step[];
}

/** Called with each thing that happens, in words. */
export type OnProgress = (text: string) => void;

/** The sprite's checkpoints. Whatever changes them happens one after the other. */
export class Checkpoints {
  /** what changes them, and what must not happen while something does */
  readonly turns = new Turns();
  readonly #parts: CheckpointParts;
  readonly #room: Room;
  readonly #newest: NewestShown;
  /** of the newest checkpoint's content; undefined: not known, as after a start from the disk and after a restore */
  #markAtLast: string | undefined;

  constructor(parts: CheckpointParts) {
    this.#parts = parts;
    this.#newest = new NewestShown(parts, this.turns);
    this.#room = new Room({ ...parts, forget: (record) => this.#forget([record]) });
  }

  /** Takes one. It exists, for good, when this returns. @throws HobError `no_space` */
  create(comment: string): Promise<Taken> {
    return this.exclusively(() => this.#take({ comment, reason: undefined }));
  }

  /** Takes an automatic one, unless nothing was changed since the last of any kind. Those that have become superfluous go. */
  automatic(reason: Exclude<AutomaticReason, "restore">): Promise<Taken | undefined> {
    return this.exclusively(async () => {
      await this.#parts.volume.sync();
      return (await this.isChanged()) ? this.#take({ comment: "", reason }) : undefined;
    });
  }

  /** Whether a file was changed since the last one of any kind, as far as it is on the disk. */
  async isChanged(): Promise<boolean> {
    const mark = await this.#parts.volume.contentMark().catch(() => undefined);
    return mark === undefined || mark !== this.#markAtLast;
  }

  /** What is there now, and on the disk, is what every new sprite has: an automatic checkpoint of it would keep nothing. */
  noteNew(): Promise<void> {
    return this.exclusively(async () => {
      this.#markAtLast = await this.#parts.volume.contentMark().catch(() => undefined);
    });
  }

  /**
   * Takes a snapshot that is no checkpoint, but holds blocks as one does: that of the last upload gives way, and then automatic
   * ones, but that of `undo`.
   * @throws HobError `no_space`
   */
  withRoom<T>(snapshot: () => Promise<T>): Promise<T> {
    return this.exclusively(async () => {
      await this.#room.make(this.#state.undo ?? undefined, Number.POSITIVE_INFINITY);
      return await snapshot();
    });
  }

  /** The live state first, then the newest. */
  list(filter: CheckpointFilter = {}): Checkpoint[] {
    const newestFirst = this.#state.checkpoints.map((record) => this.#present(record)).reverse();
    return selectCheckpoints([this.#current(), ...newestFirst], filter);
  }

  /** @throws HobError `not_found` */
  get(id: string): Checkpoint {
    return id === CURRENT ? this.#current() : this.#present(this.#require(id));
  }

  /** @throws HobError `not_found` | `conflict` for the live state */
  async delete(id: string): Promise<void> {
    if (id === CURRENT) throw new HobError("conflict", "delete checkpoint Current: it is the state in use", { hint: "destroy the sprite" });
    this.#require(id);
    await this.exclusively(async () => {
      await this.#forget([this.#require(id)]);
      this.#newest.refresh();
    });
  }

  /**
   * Puts the files back. The state before is kept as an automatic checkpoint, and is what the sprite is on again when
   * this fails. Sessions end.
   * @throws HobError `not_found` | `conflict` for the live state
   */
  async restore(id: string, onProgress: OnProgress): Promise<Restored> {
    this.requireRestorable(id);
    const goOn = this.#parts.pauseUploads?.();
    try {
      return await this.exclusively(() => this.#restore(this.#require(id), onProgress));
    } finally {
      if (goOn !== undefined) setTimeout(goOn, UPLOADS_PAUSED_AFTER_MS).unref();
    }
  }

  /** @throws HobError `not_found` | `conflict` */
  requireRestorable(id: string): void {
    if (id === CURRENT) throw new HobError("conflict", "restore checkpoint Current: it is the state in use");
    this.#require(id);
  }

  /** The checkpoint of the state before the last restore. @throws HobError `conflict` if there is none */
  undoTarget(): string {
    const { undo } = this.#state;
    if (undo === null || this.#parts.volume.ledger.find(undo) === undefined) {
      throw new HobError("conflict", "undo the last restore: there is none, or the state before it was deleted");
    }
    return undo;
  }

  /** Shows the newest inside; called once the container runs. */
  start(): void {
    this.#newest.refresh();
  }

  /** Shows the newest inside, a while after they came with a volume from the object store. */
  adopted(): void {
    this.#newest.refreshLater();
  }

  /** Resolves when what is under way has ended; nothing begins any more that was not asked for before. */
  settled(): Promise<unknown> {
    this.#newest.stop();
    return this.turns.settled();
  }

  get #state(): LedgerState {
    return this.#parts.volume.ledger.state;
  }

  /** The new tree is put together while the present state is being kept: neither is of use without the other. */
  async #restore(target: CheckpointRecord, onProgress: OnProgress): Promise<Restored> {
    const { treeSwitch } = this.#parts;
    const steps: Step[] = [];
    const comment = `before the restore of ${target.id}`;
    const [kept, staged] = await Promise.allSettled([
      timed(steps, "keep present state", () => this.#take({ comment, reason: "restore", keep: target.id })),
      timed(steps, "stage", () => treeSwitch.stage({ thin: target.thin, origin: target.origin })),
    ]);
    if (kept.status === "rejected") {
      if (staged.status === "fulfilled") await treeSwitch.discard(staged.value);
      throw kept.reason;
    }
    if (staged.status === "rejected") throw staged.reason;
    const undoId = kept.value.checkpoint.id;
    onProgress(`Kept the present state as ${undoId}`);
    onProgress("Stopping services...");
    onProgress("Restoring filesystem...");
    const history = [target.id, ...target.history].slice(0, HISTORY_MAX);
    // Also when it falls back: a file system that is mounted anew counts anew.
    this.#markAtLast = undefined;
    steps.push(...(await treeSwitch.switchToStaged(staged.value, { history, undo: undoId })));
    this.#newest.refresh();
    return { undoId, steps };
  }

  async #take(request: { comment: string; reason: AutomaticReason | undefined; keep?: string }): Promise<Taken> {
    const { volume } = this.#parts;
    await this.#room.make(request.keep);
    const thin = await volume.ledger.reserveThin();
    try {
      // Before the snapshot: what is changed in between is in it, and counts as changed after it.
      const mark = await this.#mark();
      const pauseMs = await volume.snapshotLive(thin);
      const checkpoint = await this.#record(thin, request);
      this.#markAtLast = mark;
      if (request.reason !== undefined) {
        await this.#thinOut(request.keep).catch((error) => this.#parts.onError("thin out automatic checkpoints", error));
      }
      this.#newest.refresh();
      return { checkpoint, pauseMs };
    } finally {
      volume.ledger.release(thin);
      void volume.reap();
    }
  }

  /** undefined: it cannot be told, which counts as changed */
  async #mark(): Promise<string | undefined> {
    const { volume, onError } = this.#parts;
    try {
      await volume.sync();
      return await volume.contentMark();
    } catch (error) {
      onError("see whether files were changed", error);
      return undefined;
    }
  }

  /** From here on the snapshot is a checkpoint. */
  async #record(thin: number, { comment, reason }: { comment: string; reason: AutomaticReason | undefined }): Promise<CheckpointRecord> {
    const automatic = reason !== undefined;
    const { live } = this.#state;
    const record = {
      thin,
      createTime: this.#parts.now().toISOString(),
      comment,
      history: live.history,
      automatic,
      reason: reason ?? null,
      origin: live.origin,
    };
    let id = "";
    await this.#parts.volume.ledger.update((state) => {
      id = automatic ? `auto-${state.nextAutomatic}` : `v${state.nextVersion}`;
      return {
        ...state,
        nextVersion: state.nextVersion + (automatic ? 0 : 1),
        nextAutomatic: state.nextAutomatic + (automatic ? 1 : 0),
        live: automatic ? state.live : { ...state.live, history: [id, ...live.history].slice(0, HISTORY_MAX) },
        checkpoints: [...state.checkpoints, { ...record, id }],
        pending: settle(state, thin),
      };
    });
    this.#parts.onChanged?.();
    return { ...record, id };
  }

  async #thinOut(keep: string | undefined): Promise<void> {
    const { checkpoints, undo } = this.#state;
    const automatic = checkpoints.filter(({ automatic, id }) => automatic && id !== undo && id !== keep);
    await this.#forget(superfluous(automatic, this.#parts.now().getTime()));
  }

  async #forget(records: readonly CheckpointRecord[]): Promise<void> {
    if (records.length === 0) return;
    const { volume, view, onChanged } = this.#parts;
    const isKept = ({ id }: CheckpointRecord) => !records.some((record) => record.id === id);
    await volume.ledger.update((state) => ({
      ...state,
      undo: records.some(({ id }) => id === state.undo) ? null : state.undo,
      checkpoints: state.checkpoints.filter(isKept),
      pending: [...state.pending, ...records.map(({ thin }) => thin)],
    }));
    onChanged?.();
    for (const { id } of records) await view.hide(id);
    void volume.reap();
  }

  #require(id: string): CheckpointRecord {
    const record = this.#parts.volume.ledger.find(id);
    if (record === undefined) throw checkpointNotFound(id);
    return record;
  }

  #present(record: CheckpointRecord): Checkpoint {
    return presentCheckpoint(record, { failedToMount: this.#newest.failed, durableIds: this.#parts.durableIds?.() });
  }

  #current(): Checkpoint {
    return presentCurrent(this.#state, this.#parts.now());
  }

  /** Does something while nothing changes the checkpoints. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.turns.take(work);
  }
}
