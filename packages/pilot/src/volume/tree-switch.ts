import { mkdir, readFile } from "node:fs/promises";
import { HobError } from "@hob/protocol";
import { PATHS } from "../config.ts";
import type { ContainerTarget, InnerContainer, Step } from "../container/container.ts";
import type { RootFilesystem } from "../container/rootfs.ts";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";
import type { HelperClient } from "../helper/index.ts";
import { isMounted, mountPoints } from "./mounts.ts";
import type { StagedVolume, ThinVolume, TreeSource } from "./thin-volume.ts";

const CHECK_TIMEOUT_MS = 15_000;

export interface SwitchOptions {
  /** checkpoints that the new tree derives from, nearest first: the one that it shows, and those before */
  history: readonly string[];
  /** checkpoint of the state before */
  undo: string | null;
}

export interface TreeSwitchParts {
  volume: ThinVolume;
  rootfs: RootFilesystem;
  container: InnerContainer;
  helper: HelperClient;
  /** ends this process: its successor clears the mounts away and starts on what the ledger says */
  abandon: (error: unknown) => void;
}

/**
 * Exchanges the tree that the container runs on, in two phases: the new one is put together beside the old while that is
 * in use, then the container starts on it, and if it runs there, the ledger says so. Until the ledger says so the old
 * one is the sprite's, whatever ends in the middle: this process, or the whole VM.
 */
export class TreeSwitch {
  readonly #parts: TreeSwitchParts;
  /** what was in use before the last switch is being cleared away */
  #clearing: Promise<unknown> = Promise.resolve();

  constructor(parts: TreeSwitchParts) {
    this.#parts = parts;
  }

  /** Both phases. One at a time. @throws why the new tree was not taken; the container runs on the old one then */
  async switchTo(source: TreeSource, options: SwitchOptions): Promise<Step[]> {
    return this.switchToStaged(await this.stage(source), options);
  }

  /** The first phase, which nobody in the sprite notices. What it gives must be switched to or discarded. */
  async stage(source: TreeSource): Promise<StagedVolume> {
    await this.#clearing;
    const staged = await this.#parts.volume.stage(source);
    try {
      await this.#parts.rootfs.mount(staged.tree, PATHS.staged.rootfs);
      return staged;
    } catch (error) {
      await this.discard(staged);
      throw error;
    }
  }

  async discard({ thin }: StagedVolume): Promise<void> {
    await this.#unmount(PATHS.staged.rootfs, PATHS.staged.volume);
    this.#parts.volume.drop(thin);
  }

  /** The second phase: the container stops, and starts on the staged tree or on the one before. */
  async switchToStaged(staged: StagedVolume, { history, undo }: SwitchOptions): Promise<Step[]> {
    const { volume, container, helper, abandon } = this.#parts;
    const before = volume.ledger.state.live.thin;
    const exchange = new MountExchange(helper);
    const accept = async () => {
      await this.#check(container.target());
      await volume.commit(staged, history, undo);
    };
    try {
      const steps = await container.switchRoot({
        exchange: () => exchange.forward(),
        revert: () => exchange.back().catch(abandon),
        accept,
      });
      this.#clearing = this.#dropPrevious(before);
      return steps;
    } catch (error) {
      await this.discard(staged);
      throw error;
    }
  }

  /** Resolves when nothing of earlier switches is left to be cleared away. */
  settled(): Promise<unknown> {
    return this.#clearing;
  }

  async #dropPrevious(thin: number): Promise<void> {
    await this.#unmount(PATHS.previous.rootfs, PATHS.previous.volume);
    this.#parts.volume.drop(thin);
  }

  async #unmount(...paths: readonly string[]): Promise<void> {
    for (const path of paths) if (await isMounted(path)) await this.#parts.helper.unmount(path, { lazy: true }).catch(() => {});
  }

  /**
   * The container's first process lives, a program of the platform runs in its namespaces, and its mounts are what they
   * should be. Programs of the user are not asked: a tree without any can be what is wanted.
   */
  async #check(target: ContainerTarget): Promise<void> {
    const { helper } = this.#parts;
    const environment = { PATH: "/.pilot" };
    const probe = await helper.exec({ argv: ["/.pilot/tini", "--version"], env: environment, cwd: "/", uid: 0, gid: 0, target });
    const timer = setTimeout(() => probe.close(), CHECK_TIMEOUT_MS);
    probe.start({ stdout: () => {}, stderr: () => {} });
    probe.end();
    const { code } = await probe.exited.finally(() => clearTimeout(timer));
    if (code !== 0) throw unhealthy(`a program of the platform ends with ${code} in it`);
    const mounted = await mountsOf(target.initPid);
    if (mounted.get("/") !== "overlay") throw unhealthy("its root is not what was mounted");
    for (const { target: point } of PLAIN_DIRECTORIES) {
      if (mounted.get(point) !== "ext4") throw unhealthy(`${point} is not mounted in it`);
    }
  }
}

/** Moves mounts, and knows how far it came. */
class MountExchange {
  readonly #helper: HelperClient;
  readonly #done: [from: string, to: string][] = [];

  constructor(helper: HelperClient) {
    this.#helper = helper;
  }

  async forward(): Promise<void> {
    const { staged, previous, rootfs, volume } = PATHS;
    // A container that could not be started may have no root.
    if (await isMounted(rootfs)) await this.#move(rootfs, previous.rootfs);
    await this.#move(volume, previous.volume);
    await this.#move(staged.volume, volume);
    await this.#move(staged.rootfs, rootfs);
  }

  async back(): Promise<void> {
    for (const [from, to] of this.#done.splice(0).reverse()) await this.#helper.moveMount(to, from);
  }

  async #move(from: string, to: string): Promise<void> {
    await mkdir(to, { recursive: true });
    await this.#helper.moveMount(from, to);
    this.#done.push([from, to]);
  }
}

/** Unmounts what a pilot that was killed had mounted of volumes; the newest first. */
export async function clearMounts(helper: Pick<HelperClient, "unmount" | "thaw">): Promise<void> {
  // The helper undoes its freezes, unless it was killed too. What is not frozen cannot be thawed.
  await helper.thaw(PATHS.volume).catch(() => {});
  const { staged, previous, rootfs, volume, checkpoints, checkpointVolumes } = PATHS;
  const single: string[] = [staged.rootfs, staged.volume, previous.rootfs, previous.volume, rootfs, volume];
  const isOurs = (point: string) =>
    single.includes(point) || [checkpoints, checkpointVolumes].some((folder) => point.startsWith(`${folder}/`));
  for (const point of (await mountPoints()).reverse()) if (isOurs(point)) await helper.unmount(point, { lazy: true });
}

/** Type of the file system at each mount point of a process's namespace; the last mount counts. proc_pid_mountinfo(5) */
async function mountsOf(pid: number): Promise<Map<string, string>> {
  const text = await readFile(`/proc/${pid}/mountinfo`, "utf8");
  return new Map(
    text.split("\n").flatMap((line) => {
      const fields = line.split(" ");
      const type = fields[fields.indexOf("-") + 1];
      return fields[4] === undefined || type === undefined ? [] : [[fields[4], type] as const];
    }),
  );
}

const unhealthy = (why: string): HobError => new HobError("container_stopped", `start the container on the new tree: ${why}`);
