import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../../../packages/storage/test/support/random.ts";
import { VmDebugger } from "../../../test/e2e/support/vm-debugger.ts";
import { until } from "../../../test/e2e/support/wait.ts";
import type { KillKind } from "./plan.ts";
import type { Report } from "./report.ts";
import type { World } from "./world.ts";

const STORE_AWAY_MS_MAX = 6_000;
const VM_GONE_TIMEOUT_MS = 60_000;

/** SIGKILL, and to the pilot, which no signal of the host reaches, a fault in its own code. */
export class Kills {
  readonly #world: World;
  readonly #report: Report;
  readonly #sprite: string;
  #debugger: { pid: number; vm: VmDebugger } | undefined;

  constructor(world: World, report: Report, sprite: string) {
    this.#world = world;
    this.#report = report;
    this.#sprite = sprite;
  }

  /** What has to be done before the moment. */
  async prepare(kind: KillKind): Promise<void> {
    if (kind === "pilot") await this.#openDebugger();
  }

  /** Kills, and starts again what nobody else does. */
  async kill(kind: KillKind, random: Random): Promise<void> {
    if (kind === "vmm") return this.#killVmm(random);
    this.#report.count(this.#report.kills, kind);
    if (kind === "pilot") await this.#killPilot();
    else if (kind === "daemon") await this.killDaemon();
    else await this.#killStore(random);
  }

  /** Every VM and the daemon: as a loss of power is for them, without that of the host. */
  async killAll(): Promise<void> {
    const { daemon } = this.#world;
    if (daemon.vmProcesses("qemu").length > 0) this.#report.count(this.#report.kills, "vmm");
    this.#report.count(this.#report.kills, "daemon");
    for (const { pid } of daemon.vmProcesses("qemu")) process.kill(pid, "SIGKILL");
    await daemon.kill9();
    await until("the VMs are gone", () => daemon.vmProcesses("qemu").length === 0, VM_GONE_TIMEOUT_MS);
  }

  async killDaemon(): Promise<void> {
    await this.#world.daemon.kill9();
    await this.#world.restartDaemon();
  }

  /** While none runs there is nothing to kill, and nothing to count. */
  #killVmm(random: Random): void {
    const running = this.#world.daemon.vmProcesses("qemu");
    if (running.length === 0) return;
    this.#report.count(this.#report.kills, "vmm");
    const victims = random.chance(0.5) ? running : [random.pick(running)];
    for (const { pid } of victims) process.kill(pid, "SIGKILL");
  }

  async #killStore(random: Random): Promise<void> {
    await this.#world.gateway.kill9(random.chance(0.5) ? "all" : "gateway");
    await sleep(random.below(STORE_AWAY_MS_MAX));
    await this.#world.gateway.startAgain();
  }

  /** A pilot that has nothing to do is seldom met at work. */
  async #killPilot(): Promise<void> {
    const vm = this.#debugger?.vm;
    if (vm === undefined) throw new Error("there is no debugger");
    let hasEnded = false;
    const load = (async () => {
      while (!hasEnded) await this.#ask().catch(() => sleep(100));
    })();
    try {
      await vm.crashPilot();
    } finally {
      hasEnded = true;
      await load;
    }
  }

  async #ask(): Promise<void> {
    const response = await this.#world.daemon.fetch(`/v1/sprites/${this.#sprite}/services`, { signal: AbortSignal.timeout(5_000) });
    await response.text();
  }

  async #openDebugger(): Promise<void> {
    const { daemon } = this.#world;
    await until("one VM runs", () => daemon.vmProcesses("qemu").length === 1, VM_GONE_TIMEOUT_MS);
    const [{ pid } = { pid: 0 }] = daemon.vmProcesses("qemu");
    if (this.#debugger?.pid === pid) return;
    this.#report.count(this.#report.kills, "daemon");
    this.#debugger = { pid, vm: await VmDebugger.open(daemon) };
  }
}
