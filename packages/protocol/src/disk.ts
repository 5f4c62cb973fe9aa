import { MACHINE_LIMITS } from "./limits.ts";

/**
 * The data disk of a sprite: what the host makes room for and the pilot lays out, `docs/formats/disk-layout.md`.
 * The disk is a sparse file, so its size says what may be stored, not what is.
 */

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** Unit in which the pool gives out space and snapshots share it, bytes. */
export const POOL_BLOCK_BYTES = 64 * 1024;

const LABEL_BYTES = MIB;
/** File system for what stays on this machine: journals, logs, records. */
const STATE_BYTES = 4 * GIB;
/** In a worst case, every snapshot of a volume has its own tree of mappings: about 0.5 MiB for each GiB. */
const METADATA_BYTES_PER_GB = 40 * MIB;
const METADATA_BYTES_MIN = 256 * MIB;
/** device-mapper uses no more than 255 * 2^14 blocks of 4 KiB; admin-guide/device-mapper/thin-provisioning.rst */
const METADATA_BYTES_MAX = 15 * GIB;
/** Times the size of the volume: the live volume once, what checkpoints keep, and what is written after the next one. */
const DATA_FACTOR = 3;
const DATA_EXTRA_BYTES = GIB;

/** A range of the disk, bytes; multiples of 1 MiB. */
export interface DiskRange {
  offset: number;
  length: number;
}

export interface DiskLayout {
  /** size that the sprite's file system has */
  volumeBytes: number;
  state: DiskRange;
  metadata: DiskRange;
  data: DiskRange;
}

/** @param storageGb size of the sprite's file system, GiB */
export function diskLayout(storageGb: number): DiskLayout {
  const metadataBytes = Math.min(Math.max(storageGb * METADATA_BYTES_PER_GB, METADATA_BYTES_MIN), METADATA_BYTES_MAX);
  const state = { offset: LABEL_BYTES, length: STATE_BYTES };
  const metadata = { offset: state.offset + state.length, length: metadataBytes };
  const data = { offset: metadata.offset + metadata.length, length: storageGb * GIB * DATA_FACTOR + DATA_EXTRA_BYTES };
  return { volumeBytes: storageGb * GIB, state, metadata, data };
}

/** Size of the whole disk, bytes. */
export function diskBytes(storageGb: number): number {
  const { data } = diskLayout(storageGb);
  return data.offset + data.length;
}

/** The layout that a new disk of this size is meant for; undefined if it is none of {@link diskBytes}. */
export function diskLayoutOfSize(bytes: number): DiskLayout | undefined {
  const { min, max } = MACHINE_LIMITS.storageGb;
  for (let gb: number = min; gb <= max; gb++) if (diskBytes(gb) === bytes) return diskLayout(gb);
  return undefined;
}
