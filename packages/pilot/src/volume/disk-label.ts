import { crc32 } from "node:zlib";
import { type DiskLayout, type DiskRange, HobError, POOL_BLOCK_BYTES } from "@hob/protocol";

/** The first sector of the data disk, `docs/formats/disk-layout.md`. Integers are little-endian. */
export const LABEL_BYTES = 512;

const MAGIC = Buffer.from("HOBDISK\0", "latin1");
const VERSION = 1;
const STATE = { formatting: 1, ready: 2 } as const;
const AT = { version: 8, state: 12, volume: 16, ranges: 24, blockBytes: 72, crc: 508 } as const;

export interface DiskLabel {
  /** `formatting`: the disk was never in use, and its format may be begun anew */
  readonly state: keyof typeof STATE;
  readonly layout: DiskLayout;
}

export function encodeLabel({ state, layout }: DiskLabel): Buffer {
  const label = Buffer.alloc(LABEL_BYTES);
  MAGIC.copy(label);
  label.writeUInt32LE(VERSION, AT.version);
  label.writeUInt32LE(STATE[state], AT.state);
  label.writeBigUInt64LE(BigInt(layout.volumeBytes), AT.volume);
  [layout.state, layout.metadata, layout.data].forEach(({ offset, length }, index) => {
    label.writeBigUInt64LE(BigInt(offset), AT.ranges + 16 * index);
    label.writeBigUInt64LE(BigInt(length), AT.ranges + 16 * index + 8);
  });
  label.writeUInt32LE(POOL_BLOCK_BYTES, AT.blockBytes);
  label.writeUInt32LE(crc32(label.subarray(0, AT.crc)), AT.crc);
  return label;
}

/**
 * @returns undefined if this is no label of ours
 * @throws HobError `volume_unusable` if it is one that is damaged, or of another version
 */
export function decodeLabel(label: Buffer): DiskLabel | undefined {
  if (!label.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  if (label.length < LABEL_BYTES || label.readUInt32LE(AT.crc) !== crc32(label.subarray(0, AT.crc))) {
    throw unusable("its label is damaged");
  }
  const version = label.readUInt32LE(AT.version);
  if (version !== VERSION) throw unusable(`its layout is version ${version}, and this pilot knows ${VERSION}`);
  const blockBytes = label.readUInt32LE(AT.blockBytes);
  if (blockBytes !== POOL_BLOCK_BYTES) throw unusable(`its pool has blocks of ${blockBytes} bytes`);
  const code = label.readUInt32LE(AT.state);
  const state = code === STATE.ready ? "ready" : code === STATE.formatting ? "formatting" : undefined;
  if (state === undefined) throw unusable(`its label has the unknown state ${code}`);
  const range = (index: number): DiskRange => ({
    offset: Number(label.readBigUInt64LE(AT.ranges + 16 * index)),
    length: Number(label.readBigUInt64LE(AT.ranges + 16 * index + 8)),
  });
  return {
    state,
    layout: { volumeBytes: Number(label.readBigUInt64LE(AT.volume)), state: range(0), metadata: range(1), data: range(2) },
  };
}

export const unusable = (why: string): HobError =>
  new HobError("volume_unusable", `open the data disk: ${why}`, {
    hint: "it is left as it is; the file that holds it may be the wrong one",
  });
