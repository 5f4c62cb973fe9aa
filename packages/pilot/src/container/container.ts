import { setTimeout as sleep } from "node:timers/promises";
import { HobError } from "@hob/protocol";
import { SPRITE_NETWORK } from "../config.ts";
import type { HelperClient } from "../helper/index.ts";
import type { Volume } from "../volume/volume.ts";
import { capabilityMask } from "./capabilities.ts";
import { removeCgroups, setFrozen } from "./cgroups.ts";
import { type Confinement, UNCONFINED } from "./confinement.ts";
import { type Crun, SECCOMP_FILE } from "./crun.ts";
import { onceEmpty } from "./empty-cgroup.ts";
import { type ContainerStatus, canMove } from "./lifecycle.ts";
import { setLimits } from "./limits.ts";
import type { RootFilesystem } from "./rootfs.ts";
import { CGROUP } from "./spec.ts";

/** Pause after a failed attempt to start a container that ended by itself; it doubles up to the second value. */
const REVIVE_DELAY_MS = 1_000;
const REVIVE_DELAY_MAX_MS = 30_000;

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
  noNewPrivs: boolean;
  /** capabilities that what enters can get at all, as a mask; undefined: every one */
  boundingSet: bigint | undefined;
}

export interface ContainerParts {
  crun: Crun;
  rootfs: RootFilesystem;
  helper: HelperClient;
  volume: Volume;
}

/** Another root for the container; it is stopped while `exchange` and `revert` run. */
export interface RootSwitch {
  exchange(): Promise<void>;
  /** undoes what `exchange` did, however far it came */
  revert(): Promise<void>;
  /** the container runs on the new root: throws if it must not stay there; makes it permanent otherwise */
  accept(): Promise<void>;
}

/** Who lives in the container and has to know when it comes and goes. None of these rejects; each is bounded by itself. */
export interface ContainerTenant {
  /** It runs. Not waited for. */
  containerStarted?(): void | Promise<void>;
  /** Its processes are about to be killed. */
  containerStopping?(): Promise<void>;
  /** All of its processes have ended. Afterwards nobody may hold a file of the volume open. */
  containerStopped?(): Promise<void>;
}

/** The inner container: one at a time, started and stopped as a whole. Calls are put in order; none overlaps another. */
export class InnerContainer {
  readonly #parts: ContainerParts;
  readonly #stopListeners = new Set<() => void>();
  readonly #tenants: ContainerTenant[] = [];
  #status: ContainerStatus = "stopped";
  #initPid = 0;
  #bounces = 0;
  #failure: Error | undefined;
  /** whether it is meant to run */
  #wanted = false;
  #stopWatching: () => void = () => {};
  #queue: Promise<unknown> = Promise.resolve();
  #confinement = UNCONFINED;

  constructor(parts: ContainerParts) {
    this.#parts = parts;
  }

  get bounces(): number {
    return this.#bounces;
  }

  /** why the last attempt to start it failed; undefined once it runs */
  get failure(): Error | undefined {
    return this.#failure;
  }

  state(): "running" | "stopped" {
    return this.#status === "running" ? "running" : "stopped";
  }

  /** @throws HobError `conflict` while it does not run */
  target(): ContainerTarget {
    if (this.#status !== "running") {
      throw new HobError("conflict", `enter the inner container: it is ${this.#status}`, { hint: "it restarts; try again" });
    }
    const { noNewPrivileges: noNewPrivs, capabilities } = this.#confinement;
    const boundingSet = capabilities === undefined ? undefined : capabilityMask(capabilities);
    return { initPid: this.#initPid, cgroupDir: CGROUP, seccompFile: SECCOMP_FILE, noNewPrivs, boundingSet };
  }

  /** Limits and confines what enters from now on at once, and the container itself from its next start. */
  confine(confinement: Confinement): Promise<void> {
    return this.#inOrder(async () => {
      await this.#parts.crun.writeBundle(confinement);
      this.#confinement = confinement;
      if (this.#status === "running") await setLimits(CGROUP, confinement);
    });
  }

  /**
   * Before the VM's memory is saved: what wakes from it shall not run until the clock is right, random numbers are its own
   * and the policies of that time are in force. Not put in order with starts and stops: a new container is not frozen.
   */
  freeze(): Promise<void> {
    return setFrozen(CGROUP, true);
  }

  thaw(): Promise<void> {
    return setFrozen(CGROUP, false);
  }

  /** Called each time the container stops, before its processes are killed. */
  onStopped(listener: () => void): () => void {
    this.#stopListeners.add(listener);
    return () => this.#stopListeners.delete(listener);
  }

  /** From the next start on. */
  addTenant(tenant: ContainerTenant): void {
    this.#tenants.push(tenant);
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
      const { rootfs } = this.#parts;
      if (await rootfs.isMounted()) await timed(steps, "unmount root", () => rootfs.unmount());
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

  /** As `start`, but a container that cannot start is tried again and again instead: what it lacks may be restored. */
  async startOrRetry(): Promise<Step[]> {
    try {
      return await this.start();
    } catch {
      void this.#revive();
      return [];
    }
  }

  /**
   * Starts it on another root. If that root does not do, it is started on the one before again.
   * @throws why the new root was not taken
   */
  switchRoot({ exchange, revert, accept }: RootSwitch): Promise<Step[]> {
    return this.#inOrder(async () => {
      const steps = await this.#stop();
      try {
        await timed(steps, "exchange root", exchange);
        steps.push(...(await this.#start()));
        await timed(steps, "accept root", accept);
        this.#bounces++;
        return steps;
      } catch (error) {
        await this.#stop();
        await revert();
        // What was wrong before the switch may be so still; the reason for the return is what matters here.
        await this.#start().catch(() => void this.#revive());
        throw error;
      }
    });
  }

  async #start(): Promise<Step[]> {
    if (this.#status === "running") return [];
    this.#move("creating");
    const steps: Step[] = [];
    try {
      // The mount outlives a bounce: only another volume needs another root.
      const { rootfs, volume } = this.#parts;
      if (!(await rootfs.isMounted())) await timed(steps, "mount root", () => rootfs.mount(volume));
      this.#initPid = await timed(steps, "run container", () => this.#parts.crun.run());
      await timed(steps, "connect network", () => this.#connectNetwork());
      this.#move("running");
      this.#failure = undefined;
      this.#stopWatching = onceEmpty(CGROUP, () => void this.#revive());
      for (const tenant of this.#tenants) void tenant.containerStarted?.();
      return steps;
    } catch (error) {
      this.#move("stopping");
      await this.#tearDown([]).catch(() => {});
      this.#move("stopped");
      this.#failure = error as Error;
      throw error;
    }
  }

  async #stop(): Promise<Step[]> {
    if (this.#status !== "running") return [];
    this.#stopWatching();
    const steps: Step[] = [];
    await timed(steps, "prepare to stop", () => Promise.all(this.#tenants.map((tenant) => tenant.containerStopping?.())));
    this.#move("stopping");
    for (const listener of this.#stopListeners) listener();
    await this.#tearDown(steps);
    await Promise.all(this.#tenants.map((tenant) => tenant.containerStopped?.()));
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
    for (let delayMs = REVIVE_DELAY_MS; ; delayMs = Math.min(2 * delayMs, REVIVE_DELAY_MAX_MS)) {
      try {
        return await this.#inOrder(attempt);
      } catch {
        await sleep(delayMs);
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
