import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import { SPRITE_NETWORK } from "../config.ts";
import type { HelperClient } from "../helper/index.ts";
import type { Volume } from "../volume/volume.ts";
import { removeCgroups } from "./cgroups.ts";
import { type Crun, SECCOMP_FILE } from "./crun.ts";
import { onceEmpty } from "./empty-cgroup.ts";
import { type ContainerStatus, canMove } from "./lifecycle.ts";
import type { RootFilesystem } from "./rootfs.ts";
import { CGROUP } from "./spec.ts";

/** Pause after a failed attempt to start a container that ended by itself. */
const REVIVE_DELAY_MS = 1_000;

/** How long one step of a start, stop or bounce took. */
export interface Step {
  name: string;
  ms: number;
}

/** Where a session enters the container. */
export interface ContainerTarget {
  initPid: number;
  cgroupDir: string;
  seccompFile: string;
}

export interface ContainerParts {
  crun: Crun;
  rootfs: RootFilesystem;
  helper: HelperClient;
  volume: Volume;
}

/** The inner container: one at a time, started and stopped as a whole. Calls are put in order; none overlaps another. */
export class InnerContainer {
  readonly #parts: ContainerParts;
  readonly #stopListeners = new Set<() => void>();
  #status: ContainerStatus = "stopped";
  #initPid = 0;
  #bounces = 0;
  #mounted = false;
  /** whether it is meant to run */
  #wanted = false;
  #stopWatching: () => void = () => {};
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: ContainerParts) {
    this.#parts = parts;
  }

  get bounces(): number {
    return this.#bounces;
  }

  state(): "running" | "stopped" {
    return this.#status === "running" ? "running" : "stopped";
  }

  /** @throws HobError `conflict` while it does not run */
  target(): ContainerTarget {
    if (this.#status !== "running") {
      throw new HobError("conflict", `enter the inner container: it is ${this.#status}`, { hint: "it restarts; try again" });
    }
    return { initPid: this.#initPid, cgroupDir: CGROUP, seccompFile: SECCOMP_FILE };
  }

  /** Called each time the container stops, before its processes are killed. */
  onStopped(listener: () => void): () => void {
    this.#stopListeners.add(listener);
    return () => this.#stopListeners.delete(listener);
  }

  start(): Promise<Step[]> {
    this.#wanted = true;
    return this.#inOrder(() => this.#start());
  }

  /** Ends it and takes its root apart, so that the volume can be detached. */
  stop(): Promise<Step[]> {
    this.#wanted = false;
    return this.#inOrder(async () => {
      const steps = await this.#stop();
      if (this.#mounted) await timed(steps, "unmount root", () => this.#parts.rootfs.unmount());
      this.#mounted = false;
      return steps;
    });
  }

  /** Stops and starts it; the kernel, the volume and the pilot go on. */
  bounce(): Promise<Step[]> {
    return this.#inOrder(async () => {
      const steps = [...(await this.#stop()), ...(await this.#start())];
      this.#bounces++;
      return steps;
    });
  }

  async #start(): Promise<Step[]> {
    if (this.#status === "running") return [];
    this.#move("creating");
    const steps: Step[] = [];
    try {
      // The mount outlives a bounce: only another volume needs another root.
      if (!this.#mounted) await timed(steps, "mount root", () => this.#parts.rootfs.mount(this.#parts.volume));
      this.#mounted = true;
      this.#initPid = await timed(steps, "run container", () => this.#parts.crun.run());
      await timed(steps, "connect network", () => this.#connectNetwork());
      this.#move("running");
      this.#stopWatching = onceEmpty(CGROUP, () => void this.#revive());
      return steps;
    } catch (error) {
      this.#move("stopping");
      await this.#tearDown([]).catch(() => {});
      this.#move("stopped");
      throw error;
    }
  }

  async #stop(): Promise<Step[]> {
    if (this.#status !== "running") return [];
    this.#stopWatching();
    this.#move("stopping");
    for (const listener of this.#stopListeners) listener();
    const steps: Step[] = [];
    await this.#tearDown(steps);
    this.#move("stopped");
    return steps;
  }

  /** The container has ended by itself: its user may end every process in it, tini's child included. It starts anew. */
  async #revive(): Promise<void> {
    const dead = this.#initPid;
    const attempt = async () => {
      const replaced = this.#status === "running" && this.#initPid !== dead;
      if (!this.#wanted || replaced) return;
      await this.#stop();
      await this.#start();
      this.#bounces++;
    };
    for (;;) {
      try {
        return await this.#inOrder(attempt);
      } catch {
        await sleep(REVIVE_DELAY_MS);
      }
    }
  }

  async #tearDown(steps: Step[]): Promise<void> {
    await timed(steps, "end processes", () => this.#parts.helper.killCgroup(CGROUP));
    await timed(steps, "delete container", async () => {
      await this.#parts.crun.forget();
      await removeCgroups(CGROUP);
    });
  }

  async #connectNetwork(): Promise<void> {
    const { outerName, innerName, outer, inner, mtu, outerIpv4, outerIpv6 } = SPRITE_NETWORK;
    await this.#parts.helper.setUpNetwork({
      outer: { name: outerName, addresses: [outer.ipv4, outer.ipv6] },
      inner: { name: innerName, addresses: [inner.ipv4, inner.ipv6] },
      innerPid: this.#initPid,
      gateways: [outerIpv4, outerIpv6],
      mtu,
    });
  }

  #move(to: ContainerStatus): void {
    if (!canMove(this.#status, to)) throw new HobError("internal", `move the inner container from ${this.#status} to ${to}: not allowed`);
    this.#status = to;
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => {});
    return next;
  }
}

/** Runs a step and notes how long it took, also when it fails. */
export async function timed<T>(steps: Step[], name: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    return await work();
  } finally {
    steps.push({ name, ms: Math.round(performance.now() - start) });
  }
}
