import { open } from "node:fs/promises";
import type { CommandRunner } from "@hob/linux";
import { HobError, POOL_BLOCK_BYTES } from "@hob/protocol";
import type { BlockRange } from "@hob/storage";
import type { ByteRange, DmStatus, DmTarget, HelperClient } from "../helper/index.ts";
import { BlockSpans } from "./block-spans.ts";
import { ChangedBlocks } from "./changed-blocks.ts";
import type { DiskParts } from "./data-disk.ts";
import type { ChangedRange } from "./thin-delta.ts";

export type PoolHelper = Pick<
  HelperClient,
  "dmCreate" | "dmReplace" | "dmResume" | "dmRemove" | "dmMessage" | "dmStatus" | "dmList" | "dmSnapshot" | "dmDiscard" | "exec"
>;

const POOL = "pool";
const SECTOR_BYTES = 512;
const BLOCK_SECTORS = POOL_BLOCK_BYTES / SECTOR_BYTES;
const METADATA_BLOCK_BYTES = 4096;
/** Blocks that are given back at a time, 256 MiB: the pool does nothing else meanwhile. */
const TRIM_BLOCKS_MAX = 4096;
/** Free blocks below which the kernel raises an event; nobody waits for it. */
const LOW_WATER_BLOCKS = 1024;
/** errno(3) */
const ERRNO = { ENXIO: 6, EBUSY: 16, EEXIST: 17, ENODATA: 61 } as const;

export interface PoolUsage {
  readonly usedBlocks: number;
  readonly totalBlocks: number;
  readonly usedMetadataBlocks: number;
  readonly totalMetadataBlocks: number;
  /** `rw` unless something is wrong */
  readonly mode: string;
}

/** How a thin device is made to appear. */
export interface Activation {
  readonly readOnly?: boolean;
  /** block device that blocks are read from as long as they were never written; each activation must name the same */
  readonly externalOrigin?: string;
}

/** A device that stays until it is disposed of. */
export interface ActiveThin extends AsyncDisposable {
  readonly device: string;
}

/**
 * The thin-provisioning pool: volumes and their snapshots, by number. admin-guide/device-mapper/thin-provisioning.rst
 *
 * It never fills up: a snapshot is refused unless the whole volume could be written anew after it. Each block of the
 * live volume takes space in the pool at most once per snapshot, so what is refused is the only thing that could make
 * it run out; the sprite gets ENOSPC from its own file system before.
 */
export class ThinPool {
  readonly #helper: PoolHelper;
  readonly #runner: CommandRunner;
  readonly #changes: ChangedBlocks;
  readonly #readers = new Map<number, number>();
  #snapshots: Promise<unknown> = Promise.resolve();
  #volumeBytes = 0;

  constructor(helper: PoolHelper, runner: CommandRunner) {
    this.#helper = helper;
    this.#runner = runner;
    this.#changes = new ChangedBlocks(helper, POOL);
  }

  get volumeBytes(): number {
    return this.#volumeBytes;
  }

  /** Makes empty metadata; a pool that opens it is a new one. */
  static async format({ metadata }: DiskParts): Promise<void> {
    const file = await open(metadata, "r+");
    try {
      await file.write(Buffer.alloc(METADATA_BLOCK_BYTES), 0, METADATA_BLOCK_BYTES, 0);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Makes the pool's device, or takes over the one of a pilot before this. */
  async open(parts: DiskParts): Promise<void> {
    this.#volumeBytes = parts.layout.volumeBytes;
    this.#changes.metadataDevice = parts.metadata;
    const sectors = parts.layout.data.length / SECTOR_BYTES;
    const options = `${BLOCK_SECTORS} ${LOW_WATER_BLOCKS} 2 skip_block_zeroing error_if_no_space`;
    const table = [{ start: 0, sectors, type: "thin-pool", parameters: `${parts.metadata} ${parts.data} ${options}` }];
    const create = () => this.#helper.dmCreate(POOL, table).catch(unless(ERRNO.EEXIST));
    await create();
    if ((await this.usage()).mode !== "rw") {
      // Metadata that a crash left to be checked is read-only until thin_check has found it good.
      await this.#helper.dmRemove(POOL);
      await this.#runner.run({ argv: ["thin_check", "--clear-needs-check-flag", parts.metadata], timeoutMs: 300_000 });
      await create();
    }
    await this.#changes.release();
  }

  async close(): Promise<void> {
    await this.#helper.dmRemove(POOL).catch(unless(ERRNO.ENXIO));
  }

  /** A new, empty volume. */
  async createThin(id: number): Promise<void> {
    await this.#helper.dmMessage(POOL, `create_thin ${id}`);
  }

  /** A snapshot of a volume that nobody writes to. */
  async snapshot(id: number, origin: number): Promise<void> {
    await this.#helper.dmMessage(POOL, `create_snap ${id} ${origin}`);
  }

  /**
   * A snapshot of an active volume. One after the other: what is frozen for one cannot be frozen for the next.
   * @param mountPoint of its file system
   * @returns how long that stood still, milliseconds
   */
  snapshotMounted(id: number, origin: number, mountPoint: string): Promise<number> {
    const take = () => this.#helper.dmSnapshot(POOL, `create_snap ${id} ${origin}`, nameOf(origin), mountPoint);
    const taken = this.#snapshots.then(take);
    this.#snapshots = taken.catch(() => {});
    return taken;
  }

  /**
   * Removes a volume or snapshot, also one that is in use: its users get I/O errors. One that does not exist is no error.
   * @param own blocks whose space is given back to the host as far as nothing else has them too, which removal alone leaves to the
   * pool
   */
  async deleteThin(id: number, own: readonly BlockRange[] = []): Promise<void> {
    this.#readers.delete(id);
    await this.#cutOff(id);
    if (own.length > 0) await this.#trim(id, own).catch(() => {});
    await this.#helper.dmMessage(POOL, `delete ${id}`).catch(unless(ERRNO.ENODATA));
  }

  /** @returns path of the device; the one that is there if it is active already */
  async activate(id: number, { readOnly = false, externalOrigin }: Activation = {}): Promise<string> {
    await this.#helper.dmCreate(nameOf(id), this.#table(id, externalOrigin), { readOnly }).catch(unless(ERRNO.EEXIST));
    return `/dev/mapper/${nameOf(id)}`;
  }

  /** The device goes when its last user has. One that is not there is no error. */
  async deactivate(id: number): Promise<void> {
    await this.#helper.dmRemove(nameOf(id), { deferred: true }).catch(unless(ERRNO.ENXIO));
  }

  /** A snapshot for reading; several at a time may read the same. */
  async activateReadOnly(id: number, externalOrigin?: string): Promise<ActiveThin> {
    const device = await this.activate(id, { readOnly: true, ...(externalOrigin === undefined ? {} : { externalOrigin }) });
    this.#readers.set(id, (this.#readers.get(id) ?? 0) + 1);
    let disposed = false;
    return {
      device,
      [Symbol.asyncDispose]: async () => {
        const left = (this.#readers.get(id) ?? 0) - 1;
        if (disposed || left < 0) return;
        disposed = true;
        if (left > 0) return void this.#readers.set(id, left);
        this.#readers.delete(id);
        await this.deactivate(id);
      },
    };
  }

  /**
   * Makes devices of volumes that are gone from a pilot before this disappear, and lets go on what it may have held up.
   * @param except the volume that is in use; undefined: none
   */
  async takeOver(except: number | undefined): Promise<void> {
    for (const name of await this.#helper.dmList()) {
      if (except !== undefined && name === nameOf(except)) await this.#helper.dmResume(name);
      else if (name.startsWith("trim-")) await this.#helper.dmRemove(name, { deferred: true });
      else if (name.startsWith("thin-")) await this.#cutOff(Number(name.slice("thin-".length)));
    }
  }

  /** @throws HobError `no_space` if the pool could run out of space after one more snapshot */
  async requireRoomForSnapshot(): Promise<void> {
    const usage = await this.usage();
    const volumeBlocks = this.#volumeBytes / POOL_BLOCK_BYTES;
    const freeMetadata = usage.totalMetadataBlocks - usage.usedMetadataBlocks;
    // A leaf of the tree of mappings has at least 126 of them.
    if (usage.usedBlocks + volumeBlocks <= usage.totalBlocks && freeMetadata > volumeBlocks / 100) return;
    const gib = ((usage.usedBlocks * POOL_BLOCK_BYTES) / 1024 ** 3).toFixed(1);
    throw new HobError("no_space", `take a snapshot: the checkpoints and the files in use hold ${gib} GiB`, {
      hint: "delete checkpoints that are not needed any more",
    });
  }

  async usage(): Promise<PoolUsage> {
    return parseUsage(await this.#helper.dmStatus(POOL));
  }

  /** Sectors written to an active volume since its device was made. */
  async deviceNumber(id: number): Promise<string> {
    return (await this.#helper.dmStatus(nameOf(id))).device;
  }

  /** Blocks that differ between two snapshots, in ascending order; with `undefined`, all that the second one has. */
  changedBlocks(from: number | undefined, to: number): AsyncGenerator<ChangedRange, void, undefined> {
    return this.#changes.between(from, to);
  }

  /**
   * Where a snapshot may have blocks that no other has: what it has in common with the one beside it is not its own. All of it,
   * if that cannot be told now.
   */
  async ownBlocks(id: number, beside: number): Promise<readonly BlockRange[]> {
    const all = [{ first: 0, count: Math.ceil(this.#volumeBytes / POOL_BLOCK_BYTES) }];
    if (this.#changes.isBusy) return all;
    const spans = new BlockSpans();
    try {
      for await (const { begin, length } of this.changedBlocks(id, beside)) spans.add({ first: begin, count: length });
    } catch {
      return all;
    }
    return [...spans];
  }

  /** Under a name of its own: a device that somebody holds open keeps the other one. Blocks that others have too stay. */
  async #trim(id: number, blocks: readonly BlockRange[]): Promise<void> {
    const name = `trim-${id}`;
    await this.#helper.dmCreate(name, this.#table(id)).catch(unless(ERRNO.EEXIST));
    try {
      await this.#helper.dmDiscard(name, [...inPieces(blocks, this.#volumeBytes)]);
    } finally {
      await this.#helper.dmRemove(name).catch(unless(ERRNO.ENXIO));
    }
  }

  #table(id: number, externalOrigin?: string): DmTarget[] {
    const parameters = `/dev/mapper/${POOL} ${id}${externalOrigin === undefined ? "" : ` ${externalOrigin}`}`;
    return [{ start: 0, sectors: this.#volumeBytes / SECTOR_BYTES, type: "thin", parameters }];
  }

  /** A device with open files on it cannot be removed; without its table it lets go of the volume at least. */
  async #cutOff(id: number): Promise<void> {
    const name = nameOf(id);
    try {
      await this.#helper.dmRemove(name);
    } catch (error) {
      if (errnoOf(error) === ERRNO.ENXIO) return;
      if (errnoOf(error) !== ERRNO.EBUSY) throw error;
      await this.#helper.dmReplace(name, [{ start: 0, sectors: this.#volumeBytes / SECTOR_BYTES, type: "error", parameters: "" }]);
      await this.#helper.dmRemove(name, { deferred: true }).catch(unless(ERRNO.ENXIO));
    }
  }
}

function* inPieces(blocks: readonly BlockRange[], volumeBytes: number): Generator<ByteRange, void, undefined> {
  for (const { first, count } of blocks) {
    for (let at = first; at < first + count; at += TRIM_BLOCKS_MAX) {
      const begin = at * POOL_BLOCK_BYTES;
      const end = Math.min(Math.min(at + TRIM_BLOCKS_MAX, first + count) * POOL_BLOCK_BYTES, volumeBytes);
      if (end > begin) yield { begin, length: end - begin };
    }
  }
}

const nameOf = (id: number): string => `thin-${id}`;

/** "TRANSACTION USED/TOTAL USED/TOTAL HELD_ROOT MODE …", the first pair for metadata. */
export function parseUsage({ targets }: DmStatus): PoolUsage {
  const [, metadata = "", data = "", , mode = ""] = targets[0]?.status.split(" ") ?? [];
  const pair = (text: string): [number, number] => text.split("/").map(Number) as [number, number];
  const [[usedMetadataBlocks, totalMetadataBlocks], [usedBlocks, totalBlocks]] = [pair(metadata), pair(data)];
  return { usedBlocks, totalBlocks, usedMetadataBlocks, totalMetadataBlocks, mode: mode === "" ? "failed" : mode };
}

const errnoOf = (error: unknown): unknown => (error instanceof HobError ? error.details.errno : undefined);

/** Takes one error for success: what was asked for is so already. */
function unless(errno: number): (error: unknown) => void {
  return (error) => {
    if (errnoOf(error) !== errno) throw error;
  };
}
