import { join } from "node:path";
import { CURRENT, checkpointNotFound } from "@hob/protocol";
import type { CheckpointMounts } from "../checkpoints/checkpoint-mounts.ts";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import { PATHS } from "../config.ts";
import type { StoredStates } from "../durability/stored-states.ts";
import type { ByteRange } from "../helper/index.ts";
import type { CheckpointRecord } from "../volume/ledger.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { type ChangeSources, type DeviceState, deviceChanges } from "./device-changes.ts";

/** Milliseconds for which a checkpoint stays mounted that nobody looks at any more. */
const IDLE_MS = 60_000;
/** Where the container sees the roots of checkpoints. */
const INSIDE = "/.sprite/checkpoints";

/** A state of the sprite's files, mounted for reading until it is disposed of. */
export interface OpenTree extends AsyncDisposable {
  readonly id: string;
  /** its merged root: here, and as the container sees it */
  readonly root: string;
  readonly inside: string;
  /** file system that the volume was */
  readonly volume: string;
  /** of the device below that */
  readonly state: DeviceState;
  /** false: it was deleted meanwhile, and what was not found in it since may have been there */
  isThere(): boolean;
}

export interface TreeParts {
  checkpoints: Pick<Checkpoints, "exclusively">;
  mounts: Pick<CheckpointMounts, "lend" | "giveBack" | "hideIdle" | "hide" | "has">;
  volume: Pick<ThinVolume, "ledger" | "snapshotLive" | "reap"> & {
    pool: Pick<ThinVolume["pool"], "requireRoomForSnapshot" | "changedBlocks">;
  };
  store: {
    /** in a reader: the states that it shows, in place of those of its volume */
    readonly stored: Pick<StoredStates, "find"> | undefined;
    originDifferences: ChangeSources["originDifferences"];
  };
  onError: (what: string, error: unknown) => void;
  idleMs?: number;
}

/** Opens states of the sprite for reading: checkpoints, and the live one by way of a snapshot that goes when it is closed. */
export class CheckpointTrees {
  readonly #parts: TreeParts;
  #snapshots = 0;

  constructor(parts: TreeParts) {
    this.#parts = parts;
  }

  /** @throws HobError `not_found` | `conflict` | `no_space` */
  open(id: string): Promise<OpenTree> {
    const { stored } = this.#parts.store;
    const isLive = id.toLowerCase() === CURRENT.toLowerCase();
    if (stored !== undefined) return this.#openCheckpoint(isLive ? CURRENT : id, (wanted) => stored.find(wanted));
    return isLive ? this.#openLive() : this.#openCheckpoint(id, async (wanted) => this.#parts.volume.ledger.find(wanted));
  }

  async #openCheckpoint(id: string, find: (id: string) => Promise<CheckpointRecord | undefined>): Promise<OpenTree> {
    const { checkpoints, mounts, onError, idleMs = IDLE_MS } = this.#parts;
    const { mounted, state } = await checkpoints.exclusively(async () => {
      const record = await find(id);
      if (record === undefined) throw checkpointNotFound(id);
      return { ...begun(mounts.lend(record)), state: record };
    });
    await mounted;
    const hide = () => void checkpoints.exclusively(() => mounts.hideIdle(id)).catch((error) => onError("hide a checkpoint", error));
    return this.#tree(id, state, async () => {
      mounts.giveBack(id);
      setTimeout(hide, idleMs).unref();
    });
  }

  /** What is pending in the ledger is removed at the next start, should this pilot end meanwhile. */
  async #openLive(): Promise<OpenTree> {
    const { checkpoints, mounts, volume } = this.#parts;
    const id = `.current-${++this.#snapshots}`;
    let thin: number | undefined;
    const drop = () =>
      checkpoints.exclusively(async () => {
        await mounts.hide(id);
        if (thin !== undefined) volume.ledger.release(thin);
        // It takes its time, and nobody waits for it.
        void volume.reap();
      });
    try {
      const { mounted, state } = await checkpoints.exclusively(async () => {
        await volume.pool.requireRoomForSnapshot();
        thin = await volume.ledger.reserveThin();
        const { origin } = volume.ledger.state.live;
        await volume.snapshotLive(thin);
        return { ...begun(mounts.lend({ ...SNAPSHOT, id, thin, origin })), state: { thin, origin } };
      });
      await mounted;
      return { ...this.#tree(id, state, drop), id: CURRENT };
    } catch (error) {
      await drop();
      throw error;
    }
  }

  /** Where the devices of two trees that are open may differ; undefined: it is not worth knowing. */
  changes(before: OpenTree, after: OpenTree, signal?: AbortSignal): Promise<ByteRange[] | undefined> {
    const { store, volume } = this.#parts;
    const sources: ChangeSources = {
      changedBlocks: (from, to) => volume.pool.changedBlocks(from, to),
      originDifferences: (one, other) => store.originDifferences(one, other),
    };
    return deviceChanges(sources, before.state, after.state, signal);
  }

  #tree(id: string, { thin, origin }: DeviceState, close: () => Promise<void>): OpenTree {
    let closed: Promise<void> | undefined;
    return {
      id,
      root: join(PATHS.checkpoints, id),
      inside: join(INSIDE, id),
      volume: join(PATHS.checkpointVolumes, id),
      state: { thin, origin },
      isThere: () => this.#parts.mounts.has(id),
      [Symbol.asyncDispose]: () => (closed ??= close()),
    };
  }
}

/** A mount that is not waited for in a turn: it may have to read from the object store. Whoever wants to see it waits afterwards. */
function begun(mounted: Promise<void>): { mounted: Promise<void> } {
  mounted.catch(() => {});
  return { mounted };
}

/** What a snapshot is that is no checkpoint. */
const SNAPSHOT: Omit<CheckpointRecord, "id" | "thin" | "origin"> = {
  createTime: new Date(0).toISOString(),
  comment: "",
  history: [],
  automatic: true,
  reason: null,
};
