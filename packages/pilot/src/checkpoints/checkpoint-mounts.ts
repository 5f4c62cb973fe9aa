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

/**
 * `/.sprite/checkpoints/ID` inside the sprite: the root as it was, for reading. The folder is shared from here into the
 * container: what is mounted here appears there, and goes when it goes here. Inside, nothing of it can be made writable:
 * the file systems themselves are read-only, and the folder is not of the container's ids. mount_namespaces(7)
 */
export class CheckpointMounts {
  readonly #parts: CheckpointMountParts;
  readonly #shown = new Map<string, ActiveThin>();
  /** ids of those that are to be seen always */
  #wanted: ReadonlySet<string> = new Set();
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

  /** Shows these and no others. One that cannot be mounted is left out and named. @returns ids of those */
  async show(wanted: readonly CheckpointRecord[]): Promise<string[]> {
    this.#wanted = new Set(wanted.map(({ id }) => id));
    for (const id of this.#shown.keys()) if (!this.#wanted.has(id) && !this.#lent.has(id)) await this.hide(id);
    const failed: string[] = [];
    for (const checkpoint of wanted) {
      if (this.#shown.has(checkpoint.id)) continue;
      await this.#mount(checkpoint).catch(() => failed.push(checkpoint.id));
    }
    return failed;
  }

  /**
   * Mounts any checkpoint, until it was given back as often as it was lent and `hideIdle` comes. Not together with
   * another call.
   * @throws HobError `conflict` when too many are in use
   */
  async lend(checkpoint: CheckpointRecord): Promise<void> {
    const { id } = checkpoint;
    if (!this.#shown.has(id)) {
      await this.#makeRoom();
      await this.#mount(checkpoint);
    }
    const users = this.#lent.get(id) ?? 0;
    this.#lent.delete(id);
    this.#lent.set(id, users + 1);
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

  async #makeRoom(): Promise<void> {
    const further = [...this.#lent].filter(([id]) => !this.#wanted.has(id));
    if (further.length < LENT_MAX) return;
    const idle = further.find(([, users]) => users === 0);
    if (idle !== undefined) return this.hideIdle(idle[0]);
    throw new HobError("conflict", `look at a checkpoint: ${LENT_MAX} others are being looked at`, {
      hint: "repeat the request in a moment",
    });
  }

  /** A process inside that still uses it keeps what it has open until the snapshot is deleted. */
  async hide(id: string): Promise<void> {
    const active = this.#shown.get(id);
    if (active === undefined) return;
    this.#shown.delete(id);
    this.#lent.delete(id);
    await this.#unmount(id);
    await active[Symbol.asyncDispose]();
  }

  async hideAll(): Promise<void> {
    for (const id of [...this.#shown.keys()]) await this.hide(id);
  }

  async #mount({ id, thin, origin }: CheckpointRecord): Promise<void> {
    const { volume, helper, rootfs } = this.#parts;
    const device = origin === null ? undefined : await volume.resolveOrigin(origin);
    const active = await volume.pool.activateReadOnly(thin, device);
    try {
      const [base, root] = [join(PATHS.checkpointVolumes, id), join(PATHS.checkpoints, id)];
      await mkdir(base, { recursive: true });
      await mountExt4ReadOnly(helper, active.device, base);
      await mkdir(root, { recursive: true });
      await rootfs.mountReadOnly(treeAt(base).upper, root);
      this.#shown.set(id, active);
    } catch (error) {
      await this.#unmount(id);
      await active[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #unmount(id: string): Promise<void> {
    for (const folder of [PATHS.checkpoints, PATHS.checkpointVolumes]) {
      const path = join(folder, id);
      await this.#parts.helper.unmount(path, { lazy: true }).catch(() => {});
      await rmdir(path).catch(() => {});
    }
  }
}
