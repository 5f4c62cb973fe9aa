import { mkdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import { PATHS } from "../config.ts";
import type { ContainerTarget, InnerContainer, Step } from "../container/container.ts";
import type { RootFilesystem } from "../container/rootfs.ts";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";
import type { HelperClient } from "../helper/index.ts";
import { isMounted, mountPoints } from "./mounts.ts";
import type { StagedVolume, ThinVolume, TreeSource } from "./thin-volume.ts";

const CHECK_TIMEOUT_MS = 15_000;

/**
 * For how long a tree that is not used any more stays mounted: the kernel lets go of all that it has cached of it, a second
 * of processor time for each GiB under emulation, and somebody waits for the first command on the new one.
 */
const CLEAR_DELAY_MS = 3_000;

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
  /** what was in use before the last switches is to be cleared away, or is being */
  readonly #clearing = new Set<Promise<void>>();
  readonly #hurry = new AbortController();

  constructor(parts: TreeSwitchParts) {
    this.#parts = parts;
  }

  /** The first phase, which nobody in the sprite notices. What it gives must be switched to or discarded. */
  async stage(source: TreeSource): Promise<StagedVolume> {
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

  /**
   * The second phase: the container stops, and starts on the staged tree or on the one before. One at a time.
   * @throws why the new tree was not taken; the container runs on the old one then
   */
  async switchToStaged(staged: StagedVolume, { history, undo }: SwitchOptions): Promise<Step[]> {
    const { volume, container, helper, abandon } = this.#parts;
    const before = volume.ledger.state.live.thin;
    const previous = previousPlaces(before);
    const exchange = new MountExchange(helper, previous);
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
      const clearing = this.#dropPrevious(before, previous);
      this.#clearing.add(clearing);
      void clearing.finally(() => this.#clearing.delete(clearing));
      return steps;
    } catch (error) {
      await this.discard(staged);
      throw error;
    }
  }

  /** Clears away what is left of earlier switches, without any further delay, also of those to come. */
  settled(): Promise<unknown> {
    this.#hurry.abort();
    return Promise.all(this.#clearing);
  }

  async #dropPrevious(thin: number, { rootfs, volume }: Places): Promise<void> {
    await sleep(CLEAR_DELAY_MS, undefined, { signal: this.#hurry.signal, ref: false }).catch(() => {});
    await this.#unmount(rootfs, volume);
    for (const path of [rootfs, volume]) await rmdir(path).catch(() => {});
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

/** Where a volume and the root on it are mounted. */
interface Places {
  readonly rootfs: string;
  readonly volume: string;
}

/** Where a volume goes when another takes its place. Each has its own: several may wait to be cleared away. */
const previousPlaces = (thin: number): Places => ({
  rootfs: join(PATHS.previous.rootfs, String(thin)),
  volume: join(PATHS.previous.volume, String(thin)),
});

/** Moves mounts, and knows how far it came. */
class MountExchange {
  readonly #helper: HelperClient;
  readonly #previous: Places;
  readonly #done: [from: string, to: string][] = [];

  constructor(helper: HelperClient, previous: Places) {
    this.#helper = helper;
    this.#previous = previous;
  }

  async forward(): Promise<void> {
    const { staged, rootfs, volume } = PATHS;
    const previous = this.#previous;
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
  const single: string[] = [staged.rootfs, staged.volume, rootfs, volume];
  const folders = [previous.rootfs, previous.volume, checkpoints, checkpointVolumes];
  const isOurs = (point: string) => single.includes(point) || folders.some((folder) => point.startsWith(`${folder}/`));
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
