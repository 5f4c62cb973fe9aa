import type { StorageAssignment } from "@hob/protocol";
import type { Uploader, UploadOptions, UploadResult } from "@hob/storage";
import { type CheckpointRecord, settle } from "../volume/ledger.ts";
import type { ChangedRange } from "../volume/thin-delta.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { basesOf } from "./bases.ts";
import { type ChangedBlocks, readChanges } from "./changes.ts";
import { Gate } from "./gate.ts";
import { originOf, rootOf } from "./origin-name.ts";

/** An upload that is in the store, but not named by a head. Disposed of without `keep`, it is forgotten. */
export interface Uploaded extends AsyncDisposable {
  readonly result: UploadResult;
  /** The store has it for good: the next upload brings only what changed since. */
  keep(): Promise<void>;
}

export interface LiveState {
  /** checkpoints that the state derives from, nearest first */
  readonly history: readonly string[];
  /** checkpoint of the state before the last restore, that `undo` goes to */
  readonly undo: string | null;
  /** `writtenMark` when the state had just been taken; undefined: not known */
  readonly written: string | undefined;
}

export interface UploadedLive extends Uploaded, LiveState {}

/** Takes a snapshot of the live volume while nobody else changes it for another, if the pool has room. @throws HobError `no_space` */
type WithRoom = <T>(snapshot: () => Promise<T>) => Promise<T>;

/** Uploads states of the volume, each as what changed since the last one that the store has. */
export class VolumeUpload {
  readonly #volume: ThinVolume;
  readonly #uploaderOf: (org: string) => Uploader;
  readonly #withRoom: WithRoom;
  readonly #opened: () => readonly string[];
  readonly #gate = new Gate();
  #uploader: Uploader | undefined;
  /** what the state that is being uploaded reads from, until the ledger says of it that it was uploaded */
  #uploading: string | null = null;

  /** @param opened origins that there are devices for: those of what is in use, also when the ledger has come to others */
  constructor(volume: ThinVolume, uploaderOf: (org: string) => Uploader, withRoom: WithRoom, opened: () => readonly string[]) {
    this.#volume = volume;
    this.#uploaderOf = uploaderOf;
    this.#withRoom = withRoom;
    this.#opened = opened;
  }

  /** Oldest first. */
  get checkpoints(): readonly CheckpointRecord[] {
    return this.#volume.ledger.state.checkpoints;
  }

  /** Roots of the maps of the store that anything here lies over: the volume, checkpoints, what was and is uploaded; sorted. */
  bases(): string[] {
    return basesOf(this.#volume.ledger.state, [this.#uploading, ...this.#opened()]);
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
  async live(options: UploadOptions): Promise<UploadedLive> {
    const { ledger } = this.#volume;
    await this.#gate.pass();
    const thin = await this.#reserve();
    try {
      const { history, undo, origin, written } = await this.#withRoom(async () => {
        await this.#volume.snapshotLive(thin);
        return { ...ledger.state.live, undo: ledger.state.undo, written: this.#markAt(thin) };
      });
      const result = await this.#upload(thin, origin, options);
      return { ...this.#uploaded(thin, origin, result), history, undo, written };
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
  async checkpoint(record: CheckpointRecord, options: UploadOptions): Promise<Uploaded> {
    await this.#gate.pass();
    const thin = await this.#reserve();
    try {
      await this.#volume.pool.snapshot(thin, record.thin);
      return this.#uploaded(thin, record.origin, await this.#upload(thin, record.origin, options));
    } catch (error) {
      await this.#drop(thin);
      throw error;
    }
  }

  /**
   * What a block is does not follow from a comparison of two snapshots alone where they have different origins: blocks that
   * neither has written may still differ. Then everything that the snapshot has is told against the map of its origin.
   */
  async #upload(thin: number, origin: string | null, options: UploadOptions): Promise<UploadResult> {
    const { pool, ledger } = this.#volume;
    // A restore or a deletion may take it out of the ledger before the head names what is uploaded.
    this.#uploading = origin;
    const { uploaded } = ledger.state;
    const before = uploaded !== null && uploaded.origin === origin ? uploaded : undefined;
    const root = before === undefined ? rootOf(origin) : before.root;
    const device = origin === null ? undefined : await this.#volume.resolveOrigin(origin);
    await using reader = await pool.activateReadOnly(thin, device);
    const ranges = changesOver(origin, pool.changedBlocks(before?.thin, thin));
    if (this.#uploader === undefined) throw new Error("an upload before the organization is known");
    return await this.#uploader.upload(root, readChanges(reader.device, ranges, { mayRead: () => this.#gate.pass() }), options);
  }

  #uploaded(thin: number, origin: string | null, result: UploadResult): Uploaded {
    let isKept = false;
    return {
      result,
      keep: async () => {
        isKept = true;
        this.#uploading = null;
        await this.#volume.ledger.update((state) => ({
          ...state,
          uploaded: { thin, origin, root: result.root },
          uploading: null,
          pending: state.uploaded === null ? state.pending : [...state.pending, state.uploaded.thin],
        }));
        await this.#volume.reap();
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
    this.#uploading = null;
    await this.#volume.ledger.update((state) => ({ ...state, uploading: null, pending: [...state.pending, thin] }));
    await this.#volume.reap();
  }
}

/** What holds nothing any more reads as its origin does (kernel documentation, thin-provisioning, "External snapshots"). */
async function* changesOver(origin: string | null, ranges: AsyncIterable<ChangedRange>): AsyncGenerator<ChangedBlocks, void, undefined> {
  for await (const { begin, length, mapped } of ranges) yield { first: begin, count: length, isHole: !mapped && origin === null };
}
