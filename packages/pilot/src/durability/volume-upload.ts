import { checkpointNotFound, HobError, type StorageAssignment } from "@hob/protocol";
import type { BlockRange, MapRoot, UploadOptions, UploadResult } from "@hob/storage";
import { BlockSpans } from "../volume/block-spans.ts";
import { type CheckpointRecord, settle } from "../volume/ledger.ts";
import type { ChangedRange } from "../volume/thin-delta.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { basesOf } from "./bases.ts";
import { type ChangedBlocks, readChanges } from "./changes.ts";
import { Gate } from "./gate.ts";
import { originOf, rootOf as originRoot } from "./origin-name.ts";
import type { StateUploader, StateUploadOptions } from "./state-uploader.ts";

/** An upload that is in the store, but not named by a head. Disposed of without `keep`, it is forgotten. */
export interface Uploaded extends AsyncDisposable {
  readonly result: UploadResult;
  /** The store has it for good: the next upload brings only what changed since. */
  keep(): Promise<void>;
}

export interface StateOptions extends UploadOptions {
  /** map of a checkpoint that the store has; undefined: it has none of this id */
  rootOf?: (id: string) => Promise<MapRoot | undefined>;
}

/** A snapshot that is to be uploaded. */
interface State extends Pick<CheckpointRecord, "thin" | "origin" | "history"> {
  /** the live volume that it was taken of; undefined: not known */
  readonly of: number | undefined;
}

export interface LiveState {
  /** checkpoints that the state derives from, nearest first */
  readonly history: readonly string[];
  /** checkpoint of the state before the last restore, that `undo` goes to */
  readonly undo: string | null;
  /** `writtenMark` when the state had just been taken; undefined: not known */
  readonly written: string | undefined;
}

/** A snapshot that another was compared with, and where it may have blocks that the other has not. */
interface Compared {
  readonly thin: number;
  readonly own: readonly BlockRange[];
}

interface Brought {
  readonly result: UploadResult;
  /** undefined: it was told without another snapshot */
  readonly compared: Compared | undefined;
}

export interface UploadedLive extends Uploaded, LiveState {}

/** Takes a snapshot of the live volume while nobody else changes it for another, if the pool has room. @throws HobError `no_space` */
type WithRoom = <T>(snapshot: () => Promise<T>) => Promise<T>;

/** Uploads states of the volume, each as what changed since the last one that the store has. */
export class VolumeUpload {
  readonly #volume: ThinVolume;
  readonly #uploaderOf: (org: string) => Pick<StateUploader, "upload">;
  readonly #withRoom: WithRoom;
  readonly #opened: () => readonly string[];
  readonly #gate = new Gate();
  #uploader: Pick<StateUploader, "upload"> | undefined;
  /** what the state that is being uploaded reads from, until the ledger says of it that it was uploaded */
  #uploading: string | null = null;
  /** snapshot that an upload is compared with */
  #comparedWith: number | null = null;
  /** the live volume that the last upload was a state of; undefined: not known */
  #uploadedOf: number | undefined;
  /** whether there is one in the store that no head names yet: the next to do so needs the map before no more */
  #hasResult = false;

  /** @param opened origins that there are devices for: those of what is in use, also when the ledger has come to others */
  constructor(
    volume: ThinVolume,
    uploaderOf: (org: string) => Pick<StateUploader, "upload">,
    withRoom: WithRoom,
    opened: () => readonly string[],
  ) {
    this.#volume = volume;
    this.#uploaderOf = uploaderOf;
    this.#withRoom = withRoom;
    this.#opened = opened;
  }

  /** Oldest first. */
  get checkpoints(): readonly CheckpointRecord[] {
    return this.#volume.ledger.state.checkpoints;
  }

  /**
   * Roots of the maps of the store that anything here lies over: the volume, checkpoints, what was and is uploaded; sorted. And
   * the map that the next upload builds on, which may be that of a checkpoint that was deleted.
   */
  bases(): string[] {
    const { state } = this.#volume.ledger;
    const builtOn = this.#hasResult ? null : originOf(state.uploaded?.root ?? null);
    return basesOf(state, [this.#uploading, builtOn, ...this.#opened()]);
  }

  /**
   * Makes the snapshot of the last upload garbage, for its space. The next upload then reads all that its state has, but sends no
   * more of it than it would have. @returns false: there is none, or it is in use
   */
  async giveUp(): Promise<boolean> {
    const { ledger } = this.#volume;
    const thin = ledger.state.uploaded?.thin ?? null;
    if (thin === null || thin === this.#comparedWith) return false;
    await ledger.update((state) =>
      state.uploaded?.thin !== thin ? state : { ...state, uploaded: { ...state.uploaded, thin: null }, pending: [...state.pending, thin] },
    );
    return true;
  }

  /** A text that changes with every write to the live volume, and when another volume takes its place. */
  async writtenMark(): Promise<string> {
    const { thin } = this.#volume.ledger.state.live;
    return `${thin}:${await this.#volume.writtenSectors()}`;
  }

  /** Whether the volume that is there is the sprite's, and not one that has still to be put over what the store has. */
  isFor({ organization, base }: StorageAssignment): boolean {
    this.#uploader ??= this.#uploaderOf(organization);
    return base === undefined || this.#volume.ledger.state.basis === originOf(base.root);
  }

  /**
   * Takes no snapshot and reads nothing for an upload until the function that it returns is called: the processor and the
   * disk are needed for something that somebody waits for.
   */
  pause(): () => void {
    return this.#gate.close();
  }

  /** The live volume as it is now. */
  async live(options: StateOptions): Promise<UploadedLive> {
    const { ledger } = this.#volume;
    await this.#gate.pass();
    const thin = await this.#reserve();
    try {
      const { history, undo, origin, written } = await this.#withRoom(async () => {
        await this.#volume.snapshotLive(thin);
        return { ...ledger.state.live, undo: ledger.state.undo, written: this.#markAt(thin) };
      });
      const state = { thin, origin, history, of: this.#volume.takenOf(thin) };
      return { ...this.#uploaded(state, await this.#upload(state, options)), history, undo, written };
    } catch (error) {
      await this.#drop(thin);
      throw error;
    }
  }

  /** What is to be said of the live volume, if it still is what this checkpoint has, as far as it is on the disk. */
  async asLive({ thin }: CheckpointRecord): Promise<LiveState | undefined> {
    const { live, undo } = this.#volume.ledger.state;
    const written = this.#markAt(thin);
    const now = written === undefined ? undefined : await this.writtenMark().catch(() => undefined);
    return now === undefined || now !== written ? undefined : { history: live.history, undo, written };
  }

  /** Of the live volume when this snapshot of it was taken; undefined: it is not the last one. */
  #markAt(thin: number): string | undefined {
    const written = this.#volume.writtenAt(thin);
    return written === undefined ? undefined : `${this.#volume.ledger.state.live.thin}:${written}`;
  }

  /** A checkpoint, by a snapshot of its own: it may be deleted at any time. */
  async checkpoint(record: CheckpointRecord, options: StateOptions): Promise<Uploaded> {
    await this.#gate.pass();
    const thin = await this.#reserve();
    try {
      await this.#volume.pool.snapshot(thin, record.thin);
      // Of one that was deleted before, some may have been given back already: this is no state that the sprite ever had.
      if (!this.#has(record)) throw checkpointNotFound(record.id);
      const state = { ...record, thin, of: this.#volume.takenOf(record.thin) };
      return this.#uploaded(state, await this.#upload(state, options));
    } catch (error) {
      await this.#drop(thin);
      throw error;
    }
  }

  /**
   * What a block is does not follow from a comparison of two snapshots alone where they have different origins: blocks that
   * neither has written may still differ. Then everything that the snapshot has is told against the map of its origin, and so it
   * is when the other snapshot was given up, or its map is not whole in the store any more: what was lost with it is sent anew.
   */
  async #upload(state: State, { rootOf, ...options }: StateOptions): Promise<Brought> {
    const known = this.#volume.ledger.state.uploaded?.root ?? null;
    const brought = await this.#uploadOverParent(state, rootOf, { ...options, known });
    if (brought !== undefined) return brought;
    const { uploaded } = this.#volume.ledger.state;
    if (uploaded === null || uploaded.thin === null || uploaded.origin !== state.origin)
      return await this.#uploadOver(originRoot(state.origin), undefined, state, { ...options, known });
    try {
      return await this.#uploadOver(uploaded.root, uploaded.thin, state, { ...options, known });
    } catch (error) {
      if (!(error instanceof HobError && error.code === "data_damaged")) throw error;
      return await this.#uploadOver(originRoot(state.origin), undefined, state, options);
    }
  }

  /**
   * After a restore the state has most in common with the checkpoint that was restored, and not with what was uploaded last.
   * @returns undefined: it is not so, or the store does not have that checkpoint
   */
  async #uploadOverParent(state: State, rootOf: StateOptions["rootOf"], options: StateUploadOptions): Promise<Brought | undefined> {
    const { ledger } = this.#volume;
    const [id = ""] = state.history;
    if (state.of === undefined || this.#uploadedOf === undefined || state.of === this.#uploadedOf) return undefined;
    const parent = ledger.find(id);
    if (parent === undefined || parent.origin !== state.origin) return undefined;
    const root = await rootOf?.(id).catch(() => undefined);
    if (root === undefined) return undefined;
    try {
      const brought = await this.#uploadOver(root, parent.thin, state, options);
      // Its snapshot may have been given back in part when it was compared: then what that had lost does not show.
      return this.#has(parent) ? brought : undefined;
    } catch (error) {
      // Its snapshot may have gone while it was read, and its map with it.
      if (this.#has(parent) && !(error instanceof HobError && error.code === "data_damaged")) throw error;
      return undefined;
    }
  }

  /** Before a snapshot is given back, the ledger says of it that it is no checkpoint any more. */
  #has({ id, thin }: CheckpointRecord): boolean {
    return this.#volume.ledger.find(id)?.thin === thin;
  }

  /** @param before snapshot of the state that `base` is the map of; undefined: of a state in which nothing was written */
  async #uploadOver(base: MapRoot, before: number | undefined, { thin, origin }: State, options: StateUploadOptions): Promise<Brought> {
    const { pool, sizeBytes } = this.#volume;
    // A restore or a deletion may take it out of the ledger before the head names what is uploaded.
    this.#uploading = origin;
    this.#comparedWith = before ?? null;
    const device = origin === null ? undefined : await this.#volume.resolveOrigin(origin);
    await using reader = await pool.activateReadOnly(thin, device);
    const spans = new BlockSpans();
    const ranges = changesOver(origin, pool.changedBlocks(before, thin), spans);
    if (this.#uploader === undefined) throw new Error("an upload before the organization is known");
    const changes = readChanges(reader.device, ranges, { volumeBytes: sizeBytes, mayRead: () => this.#gate.pass() });
    const result = await this.#uploader.upload(base, changes, options);
    return { result, compared: before === undefined ? undefined : { thin: before, own: [...spans] } };
  }

  #uploaded({ thin, origin, of }: State, { result, compared }: Brought): Uploaded {
    let isKept = false;
    this.#comparedWith = null;
    this.#hasResult = true;
    return {
      result,
      keep: async () => {
        isKept = true;
        this.#uploading = null;
        this.#hasResult = false;
        this.#uploadedOf = of;
        await this.#volume.ledger.update((state) => {
          const before = state.uploaded?.thin ?? null;
          const pending = before === null ? state.pending : [...state.pending, before];
          return { ...state, uploaded: { thin, origin, root: result.root }, uploading: null, pending };
        });
        await this.#volume.reap(compared);
      },
      [Symbol.asyncDispose]: async () => {
        if (!isKept) await this.#drop(thin);
      },
    };
  }

  /** Not pending: what is pending is removed whenever somebody else cleans up. */
  async #reserve(): Promise<number> {
    const thin = await this.#volume.ledger.reserveThin();
    await this.#volume.ledger.update((state) => ({ ...state, uploading: thin, pending: settle(state, thin) }));
    return thin;
  }

  async #drop(thin: number): Promise<void> {
    this.#uploading = this.#comparedWith = null;
    this.#hasResult = false;
    await this.#volume.ledger.update((state) => ({ ...state, uploading: null, pending: [...state.pending, thin] }));
    await this.#volume.reap();
  }
}

/** What holds nothing any more reads as its origin does (kernel documentation, thin-provisioning, "External snapshots"). */
async function* changesOver(
  origin: string | null,
  ranges: AsyncIterable<ChangedRange>,
  seen: BlockSpans,
): AsyncGenerator<ChangedBlocks, void, undefined> {
  for await (const { begin, length, mapped } of ranges) {
    const blocks = { first: begin, count: length };
    seen.add(blocks);
    yield { ...blocks, isHole: !mapped && origin === null };
  }
}
