import type { CheckpointRecord, Ledger } from "../volume/ledger.ts";
import type { TreeSwitch } from "../volume/tree-switch.ts";

/** What checkpoints need of the volume. */
export interface CheckpointVolume {
  readonly ledger: Ledger;
  readonly pool: { requireRoomForSnapshot(): Promise<void> };
  snapshotLive(thin: number): Promise<number>;
  /** removes what belongs to nothing, in the background; never rejects */
  reap(): Promise<void>;
  /** writes out what is dirty */
  sync(): Promise<void>;
  /** changes with the files that are on the disk, and with nothing else */
  contentMark(): Promise<string>;
}

/** Where checkpoints can be looked at from inside. */
export interface CheckpointView {
  /** @param mayMount waited for before each mount */
  show(wanted: readonly CheckpointRecord[], mayMount: () => Promise<void>): Promise<string[]>;
  hide(id: string): Promise<void>;
}

export interface CheckpointParts {
  volume: CheckpointVolume;
  treeSwitch: Pick<TreeSwitch, "stage" | "discard" | "switchToStaged">;
  view: CheckpointView;
  /** checkpoints that are mounted inside */
  shown: number;
  /** how long those that came from the object store wait for that; default 5 s */
  shownAfterMs?: number;
  /** those that the object store has; undefined while that is not known */
  durableIds?: () => ReadonlySet<string> | undefined;
  /** makes the snapshot of the last upload garbage; false: there is none that can be */
  giveUpUploaded?: () => Promise<boolean>;
  /** called when one was taken or deleted */
  onChanged?: () => void;
  /** keeps uploads from going on until the function that it returns is called */
  pauseUploads?: () => () => void;
  now: () => Date;
  onError: (what: string, error: unknown) => void;
}
