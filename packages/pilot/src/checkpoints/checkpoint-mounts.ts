import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { CommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { PATHS } from "../config.ts";
import type { RootFilesystem } from "../container/rootfs.ts";
import type { HelperClient } from "../helper/index.ts";
import { mountExt4ReadOnly } from "../volume/ext4.ts";
import type { CheckpointRecord } from "../volume/ledger.ts";
import { isMounted } from "../volume/mounts.ts";
import type { ActiveThin } from "../volume/thin-pool.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import { treeAt } from "../volume/volume.ts";

/** Newest checkpoints that are mounted inside. */
export const SHOWN = 5;

/** Further ones that are mounted at a time because somebody looks at them. */
const LENT_MAX = 8;

export interface CheckpointMountParts {
  volume: ThinVolume;
  rootfs: RootFilesystem;
  helper: HelperClient;
  runner: CommandRunner;
}

/** A checkpoint that is mounted, or is being mounted. */
interface Place {
  /** rejects when nothing is left of what could not be mounted */
  ready: Promise<void>;
  active?: ActiveThin;
  /** it was hidden: what is still being mounted goes as soon as it can */
  isHidden: boolean;
}

/**
 * `/.sprite/checkpoints/ID` inside the sprite: the root as it was, for reading. The folder is shared from here into the
 * container: what is mounted here appears there, and goes when it goes here. Inside, nothing of it can be made writable:
 * the file systems themselves are read-only, and the folder is not of the container's ids. mount_namespaces(7)
 *
 * A mount may wait for the object store, without end when that is away. So nothing waits for a mount but who wants to see it: calls may
 * come at any time, and one that hides does not wait for what is being mounted.
 */
export class CheckpointMounts {
  readonly #parts: CheckpointMountParts;
  readonly #shown = new Map<string, Place>();
  /** those that were hidden, until nothing is left of their mounts */
  readonly #clearing = new Map<string, Promise<void>>();
  /** ids of those that are to be seen always */
  #wanted = new Set<string>();
  /** those that somebody looks at or did a moment ago, the least recent first, and how many do */
  readonly #lent = new Map<string, number>();

  constructor(parts: CheckpointMountParts) {
    this.#parts = parts;
  }

  /** Before the container starts: a shared mount point. */
  async prepare(): Promise<void> {
    const { helper, runner } = this.#parts;
    const { checkpoints, checkpointVolumes } = PATHS;
    await mkdir(checkpointVolumes, { recursive: true });
    await mkdir(checkpoints, { recursive: true });
    if (await isMounted(checkpoints)) return;
    await helper.idmapMount({ fsType: "tmpfs", source: "checkpoints", target: checkpoints, options: ["mode=0755", "size=1m"] });
    await runner.run({ argv: ["mount", "--make-shared", checkpoints], timeoutMs: 10_000 });
  }

  /**
   * Shows these and no others, one after the other. One that cannot be mounted is left out and named. A later call takes the place
   * of one before.
   * @param mayMount waited for before each mount
   * @returns ids of those
   */
  async show(wanted: readonly CheckpointRecord[], mayMount: () => Promise<void> = async () => {}): Promise<string[]> {
    const ids = new Set(wanted.map(({ id }) => id));
    this.#wanted = ids;
    for (const id of this.#shown.keys()) if (!ids.has(id) && !this.#lent.has(id)) await this.hide(id);
    const failed: string[] = [];
    for (const checkpoint of wanted) {
      if (this.#shown.get(checkpoint.id)?.active !== undefined) continue;
      await mayMount();
      if (this.#wanted !== ids) break;
      // It may have been deleted meanwhile.
      if (ids.has(checkpoint.id)) await this.#mount(checkpoint).catch(() => ids.has(checkpoint.id) && failed.push(checkpoint.id));
    }
    return failed;
  }

  /**
   * Mounts any checkpoint, until it was given back as often as it was lent and `hideIdle` comes. It is known from the call on, not
   * only when it is mounted.
   * @throws HobError `conflict` when too many are in use
   */
  async lend(checkpoint: CheckpointRecord): Promise<void> {
    const { id } = checkpoint;
    const idle = this.#shown.has(id) ? undefined : this.#idleOne();
    const users = this.#lent.get(id) ?? 0;
    this.#lent.delete(id);
    this.#lent.set(id, users + 1);
    try {
      await Promise.all([this.#mount(checkpoint), idle === undefined ? undefined : this.hideIdle(idle)]);
    } catch (error) {
      this.giveBack(id);
      if (this.#lent.get(id) === 0) this.#lent.delete(id);
      throw error;
    }
  }

  /** Whether it can be seen, or will be in a moment. False from before the moment at which its paths seem to be missing. */
  has(id: string): boolean {
    return this.#shown.has(id);
  }

  giveBack(id: string): void {
    const users = this.#lent.get(id);
    if (users !== undefined) this.#lent.set(id, Math.max(0, users - 1));
  }

  /** Unless it is in use or to be seen always. */
  async hideIdle(id: string): Promise<void> {
    if (this.#lent.get(id) !== 0) return;
    this.#lent.delete(id);
    if (!this.#wanted.has(id)) await this.hide(id);
  }

  /** One that has to go before a further one may be mounted; undefined: none has to. */
  #idleOne(): string | undefined {
    const further = [...this.#lent].filter(([id]) => !this.#wanted.has(id));
    if (further.length < LENT_MAX) return undefined;
    const idle = further.find(([, users]) => users === 0);
    if (idle !== undefined) return idle[0];
    throw new HobError("conflict", `look at a checkpoint: ${LENT_MAX} others are being looked at`, {
      hint: "repeat the request in a moment",
    });
  }

  /** A process inside that still uses it keeps what it has open until the snapshot is deleted. */
  async hide(id: string): Promise<void> {
    this.#wanted.delete(id);
    const place = this.#shown.get(id);
    if (place === undefined) return;
    this.#shown.delete(id);
    this.#lent.delete(id);
    place.isHidden = true;
    const { active } = place;
    const clearing = active === undefined ? place.ready.catch(() => {}) : this.#clear(id, active);
    this.#clearing.set(id, clearing);
    void clearing.finally(() => this.#clearing.get(id) === clearing && this.#clearing.delete(id)).catch(() => {});
    if (active !== undefined) await clearing;
  }

  /** Also waits for what is being mounted: to be called when nothing waits for the object store any more. */
  async hideAll(): Promise<void> {
    this.#wanted = new Set();
    for (const id of [...this.#shown.keys()]) await this.hide(id);
    await Promise.all(this.#clearing.values());
  }

  #mount(checkpoint: CheckpointRecord): Promise<void> {
    const { id } = checkpoint;
    const known = this.#shown.get(id);
    if (known !== undefined) return known.ready;
    const place: Place = { isHidden: false, ready: Promise.resolve() };
    this.#shown.set(id, place);
    place.ready = this.#fill(place, checkpoint).catch((error) => {
      if (this.#shown.get(id) === place) this.#shown.delete(id);
      throw error;
    });
    return place.ready;
  }

  async #fill(place: Place, { id, thin, origin }: CheckpointRecord): Promise<void> {
    const { volume, helper, rootfs } = this.#parts;
    await this.#clearing.get(id);
    if (place.isHidden) throw wentMeanwhile(id);
    const device = origin === null ? undefined : await volume.resolveOrigin(origin);
    const active = await volume.pool.activateReadOnly(thin, device);
    try {
      const [base, root] = [join(PATHS.checkpointVolumes, id), join(PATHS.checkpoints, id)];
      await mkdir(base, { recursive: true });
      await mountExt4ReadOnly(helper, active.device, base);
      await mkdir(root, { recursive: true });
      await rootfs.mountReadOnly(treeAt(base).upper, root);
      if (place.isHidden) throw wentMeanwhile(id);
      place.active = active;
    } catch (error) {
      await this.#clear(id, active);
      throw error;
    }
  }

  async #clear(id: string, active: ActiveThin): Promise<void> {
    await this.#unmount(id);
    await active[Symbol.asyncDispose]();
  }

  async #unmount(id: string): Promise<void> {
    for (const folder of [PATHS.checkpoints, PATHS.checkpointVolumes]) {
      const path = join(folder, id);
      await this.#parts.helper.unmount(path, { lazy: true }).catch(() => {});
      await rmdir(path).catch(() => {});
    }
  }
}

const wentMeanwhile = (id: string): HobError => new HobError("conflict", `look at checkpoint ${id}: it went while it was being mounted`);
