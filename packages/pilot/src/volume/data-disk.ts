import { type FileHandle, open, readFile } from "node:fs/promises";
import { type DiskLayout, type DiskRange, diskLayoutOfSize } from "@hob/protocol";
import type { HelperClient } from "../helper/index.ts";
import { readExactly } from "../read-exactly.ts";
import { decodeLabel, encodeLabel, LABEL_BYTES, unusable } from "./disk-label.ts";

const SECTOR_BYTES = 512;
/** What every file system and partition table has its signature in. */
const PROBED_BYTES = 1024 ** 2;
const EEXIST = 17;

export interface DiskParts {
  readonly layout: DiskLayout;
  readonly state: string;
  readonly metadata: string;
  readonly data: string;
}

/** The data disk: its label, and its parts as block devices. A disk that holds anything that is not ours is never written. */
export class DataDisk {
  readonly #device: string;
  readonly #helper: Pick<HelperClient, "dmCreate">;

  constructor(device: string, helper: Pick<HelperClient, "dmCreate">) {
    this.#device = device;
    this.#helper = helper;
  }

  /**
   * Maps the parts. A new disk, or one whose first format was cut off, is passed to `format` first; it is in use only
   * once that has returned.
   * @throws HobError `volume_unusable`
   */
  async open(format: (parts: DiskParts) => Promise<void>): Promise<DiskParts> {
    const { layout, isReady } = await this.#examine();
    if (isReady) return this.#map(layout);
    await this.#writeLabel("formatting", layout);
    const parts = await this.#map(layout);
    await format(parts);
    await this.#writeLabel("ready", layout);
    return parts;
  }

  async #examine(): Promise<{ layout: DiskLayout; isReady: boolean }> {
    const disk = await open(this.#device, "r");
    try {
      const head = await readExactly(disk, 0, PROBED_BYTES);
      const label = decodeLabel(head.subarray(0, LABEL_BYTES));
      if (label !== undefined) return { layout: label.layout, isReady: label.state === "ready" };
      if (head.some((byte) => byte !== 0)) throw unusable("it holds data that is not a sprite's");
      const bytes = await sizeOf(disk);
      const layout = diskLayoutOfSize(bytes);
      if (layout === undefined) throw unusable(`its size of ${bytes} bytes fits no volume`);
      return { layout, isReady: false };
    } finally {
      await disk.close();
    }
  }

  async #writeLabel(state: "formatting" | "ready", layout: DiskLayout): Promise<void> {
    const disk = await open(this.#device, "r+");
    try {
      await disk.write(encodeLabel({ state, layout }), 0, LABEL_BYTES, 0);
      await disk.sync();
    } finally {
      await disk.close();
    }
  }

  async #map(layout: DiskLayout): Promise<DiskParts> {
    const map = async (name: string, range: DiskRange): Promise<string> => {
      const { offset, length } = range;
      const target = { start: 0, sectors: length / SECTOR_BYTES, type: "linear", parameters: `${this.#device} ${offset / SECTOR_BYTES}` };
      await this.#helper.dmCreate(name, [target]).catch((error) => {
        // A pilot before this one has made it.
        if (error?.details?.errno !== EEXIST) throw error;
      });
      return `/dev/mapper/${name}`;
    };
    const [state, metadata, data] = await Promise.all([
      map("state", layout.state),
      map("pool-metadata", layout.metadata),
      map("pool-data", layout.data),
    ]);
    return { layout, state, metadata, data };
  }
}

/** stat(2) knows no size of a block device; sysfs does. */
async function sizeOf(disk: FileHandle): Promise<number> {
  const found = await disk.stat();
  if (!found.isBlockDevice()) return found.size;
  // dev_t taken apart as gnu_dev_major(3) and gnu_dev_minor(3) do.
  const [major, minor] = [(found.rdev >> 8) & 0xfff, (found.rdev & 0xff) | ((found.rdev >> 12) & 0xfff00)];
  return Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * SECTOR_BYTES;
}
