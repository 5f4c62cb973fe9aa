import { chmod, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { CommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import type { BlockRange } from "@hob/storage";
import { PATHS } from "../config.ts";
import type { HelperClient } from "../helper/index.ts";
import { DataDisk, type DiskParts } from "./data-disk.ts";
import { formatState, formatVolume, mountExt4 } from "./ext4.ts";
import { committedTransactions } from "./journal.ts";
import { Ledger, settle } from "./ledger.ts";
import { isMounted } from "./mounts.ts";
import { ThinPool } from "./thin-pool.ts";
import { layOut, treeAt, type Volume, type VolumeTree } from "./volume.ts";

const DROP_DELAY_MS = 5_000;

/** Makes the block device of this name appear, from which a volume reads what was never written to it. */
export type OriginResolver = (name: string) => Promise<string>;

/** Where a new tree comes from: a snapshot of the pool, or an empty volume over a device. Either may name an origin. */
export type TreeSource = { readonly thin: number; readonly origin?: string | null } | { readonly origin: string };

/** A volume that is put together beside the one in use. */
export interface StagedVolume {
  readonly thin: number;
  readonly origin: string | null;
  readonly tree: VolumeTree;
}

export interface ThinVolumeParts {
  /** the data disk */
  device: string;
  helper: HelperClient;
  runner: CommandRunner;
  /** loads what the kernel needs for it */
  prepare: () => Promise<void>;
  origins?: OriginResolver;
}

/** The sprite's volume: a thin device of the pool on its data disk, and the file system for local state beside it. */
export class ThinVolume implements Volume {
  readonly pool: ThinPool;
  readonly path = PATHS.volume;
  readonly #parts: ThinVolumeParts;
  readonly #disk: DataDisk;
  #ledger: Ledger | undefined;
  #reaping: Promise<void> = Promise.resolve();
  /** the last snapshot of a live volume, and the sectors that had been written to that then */
  #newest: { thin: number; of: number; written: number } | undefined;
  /** live volumes, by the snapshots that were taken of them since this pilot began */
  readonly #takenOf = new Map<number, number>();

  constructor(parts: ThinVolumeParts) {
    this.#parts = parts;
    this.#disk = new DataDisk(parts.device, parts.helper);
    this.pool = new ThinPool(parts.helper, parts.runner);
  }

  get upper(): string {
    return treeAt(this.path).upper;
  }

  get work(): string {
    return treeAt(this.path).work;
  }

  /** Of the sprite's file system, bytes; known once the disk has been opened. */
  get sizeBytes(): number {
    return this.pool.volumeBytes;
  }

  /** @throws HobError `internal` before `attach` */
  get ledger(): Ledger {
    if (this.#ledger === undefined) throw new HobError("internal", "use the volume: it is not attached");
    return this.#ledger;
  }

  /** Also after a pilot that was killed: what it had mapped and mounted is taken over or cleared away. */
  async attach(): Promise<void> {
    const { prepare } = this.#parts;
    await prepare();
    const parts = await this.#disk.open((fresh) => this.#format(fresh));
    await this.#mountState(parts.state);
    await this.pool.open(parts);
    this.#ledger = await Ledger.open(ledgerPath());
    const { live } = this.ledger.state;
    await this.pool.takeOver(live.thin);
    await this.#abandonUpload();
    // Most of what is pending at a start was reserved and never made.
    await this.#reap(async () => []);
    await mountExt4(this.#parts.helper, await this.#activate(live.thin, live.origin), this.path);
    await layOut(treeAt(this.path));
  }

  async sync(): Promise<void> {
    await this.#parts.helper.sync();
  }

  async detach(): Promise<void> {
    const { helper } = this.#parts;
    await this.#reaping;
    await helper.sync();
    await helper.unmount(this.path);
    await this.pool.deactivate(this.ledger.state.live.thin);
    await this.pool.close();
    // Journals and logs may still be open; they are on disk.
    await helper.unmount(PATHS.state, { lazy: true });
  }

  /** A snapshot of the live volume as `thin`. @returns how long its users stood still, milliseconds */
  async snapshotLive(thin: number): Promise<number> {
    const of = this.ledger.state.live.thin;
    const pauseMs = await this.pool.snapshotMounted(thin, of, this.path);
    this.#takenOf.set(thin, of);
    // Not before: the freeze itself writes the superblock, and a volume that nobody uses would never come to rest. What is
    // written in between shows with its next metadata, seconds later.
    const written = await this.writtenSectors().catch(() => undefined);
    this.#newest = written === undefined ? undefined : { thin, of, written };
    return pauseMs;
  }

  /** Sectors that had been written to the live volume when this snapshot of it was taken; undefined: it is not the last one. */
  writtenAt(thin: number): number | undefined {
    const newest = this.#newest;
    return newest?.thin === thin && newest.of === this.ledger.state.live.thin ? newest.written : undefined;
  }

  /** The live volume that this is a snapshot of; undefined: a pilot before this one took it. */
  takenOf(thin: number): number | undefined {
    return this.#takenOf.get(thin);
  }

  /**
   * Puts a volume together beside the live one and mounts it at `PATHS.staged.volume`.
   * @throws whatever makes it unusable; nothing is left of it then
   */
  async stage(source: TreeSource): Promise<StagedVolume> {
    const thin = await this.ledger.reserveThin();
    const origin = source.origin ?? null;
    const tree = treeAt(PATHS.staged.volume);
    try {
      if ("thin" in source) await this.pool.snapshot(thin, source.thin);
      else await this.pool.createThin(thin);
      const device = await this.#activate(thin, origin);
      await mkdir(tree.path, { recursive: true });
      await mountExt4(this.#parts.helper, device, tree.path);
      await layOut(tree);
      return { thin, origin, tree };
    } catch (error) {
      await this.#parts.helper.unmount(tree.path, { lazy: true }).catch(() => {});
      this.drop(thin);
      throw error;
    }
  }

  /**
   * Makes a staged volume the live one, for good. The one before is held until `drop`, as it is still mounted.
   * @param history what it derives from, nearest first
   */
  async commit({ thin, origin }: StagedVolume, history: readonly string[], undo: string | null): Promise<void> {
    const before = this.ledger.state.live.thin;
    await this.ledger.update((state) => {
      this.ledger.hold(before);
      return { ...state, live: { thin, history: [...history], origin }, undo, pending: [...settle(state, thin), before] };
    });
  }

  /**
   * Gives up a volume that was staged or live and is not mounted any more. It is removed later, when the container has
   * had its start: what is given back to the host keeps the pool busy. A pilot that ends before leaves it to the next.
   */
  drop(thin: number): void {
    const remove = () => {
      this.ledger.release(thin);
      void this.reap();
    };
    setTimeout(remove, DROP_DELAY_MS).unref();
  }

  /**
   * Removes thin devices that belong to nothing, in the background: the space of what they hold alone is given back,
   * which takes its time. @returns settles when it is done; those that cannot be removed now are left for the next time
   * @param known where one of them may have blocks of its own, to save the search
   */
  reap(known?: { readonly thin: number; readonly own: readonly BlockRange[] }): Promise<void> {
    const ownOf = async (thin: number) => (known?.thin === thin ? known.own : await this.pool.ownBlocks(thin, this.ledger.state.live.thin));
    this.#reaping = this.#reaping.then(() => this.#reap(ownOf));
    return this.#reaping;
  }

  async #reap(ownOf: (thin: number) => Promise<readonly BlockRange[]>): Promise<void> {
    const gone: number[] = [];
    for (const thin of this.ledger.garbage()) {
      const remove = async () => this.pool.deleteThin(thin, await ownOf(thin));
      const removed = await remove().then(
        () => true,
        () => false,
      );
      if (removed) gone.push(thin);
      if (removed) this.#takenOf.delete(thin);
    }
    if (gone.length === 0) return;
    // Numbers of devices that are gone may stay pending: removing them again does no harm.
    await this.ledger.update((state) => ({ ...state, pending: settle(state, ...gone) })).catch(() => {});
  }

  /** Sectors written to the live volume since its device was made. */
  async writtenSectors(): Promise<number> {
    const device = await this.pool.deviceNumber(this.ledger.state.live.thin);
    // Documentation/admin-guide/iostats.rst: the seventh field.
    return Number((await readFile(`/sys/dev/block/${device}/stat`, "utf8")).trim().split(/\s+/)[6]);
  }

  /**
   * Names what the files of the live volume are, as far as it is on the disk: the same as long as nobody changed any. Of this
   * mount only.
   */
  async contentMark(): Promise<string> {
    const { thin } = this.ledger.state.live;
    return `${thin}:${await committedTransactions(await this.pool.deviceNumber(thin))}`;
  }

  /** One that a pilot before this one had begun; the next begins anew. */
  async #abandonUpload(): Promise<void> {
    const { uploading } = this.ledger.state;
    if (uploading !== null) await this.ledger.update((state) => ({ ...state, uploading: null, pending: [...state.pending, uploading] }));
  }

  async #activate(thin: number, origin: string | null): Promise<string> {
    if (origin === null) return this.pool.activate(thin);
    return this.pool.activate(thin, { externalOrigin: await this.resolveOrigin(origin) });
  }

  /** @throws HobError `volume_unusable` if nothing can provide it */
  async resolveOrigin(origin: string): Promise<string> {
    if (this.#parts.origins === undefined) throw new HobError("volume_unusable", `open a volume over ${origin}: nothing provides that`);
    return this.#parts.origins(origin);
  }

  async #mountState(device: string): Promise<void> {
    if (await isMounted(PATHS.state)) return;
    await mkdir(PATHS.state, { recursive: true, mode: 0o700 });
    await mountExt4(this.#parts.helper, device, PATHS.state);
    await chmod(PATHS.state, 0o700);
  }

  /** The first use of a disk: nothing on it counts before all of this is done, so it may have been begun before. */
  async #format(parts: DiskParts): Promise<void> {
    const { runner, helper } = this.#parts;
    if (await isMounted(PATHS.state)) await helper.unmount(PATHS.state);
    await this.pool.takeOver(undefined);
    await this.pool.close();
    const formatPool = async () => {
      await ThinPool.format(parts);
      await this.pool.open(parts);
      await this.pool.createThin(0);
      await formatVolume(runner, await this.pool.activate(0));
    };
    await Promise.all([formatPool(), formatState(runner, parts.state)]);
    await this.#mountState(parts.state);
    await Ledger.create(ledgerPath());
  }
}

const ledgerPath = (): string => join(PATHS.state, "volumes.json");
