import { readFile, writeFile } from "node:fs/promises";
import { type CommandRunner, SystemCommandRunner } from "@hob/linux";
import { type Logger, pino } from "pino";
import { Activity } from "./activity/activity.ts";
import { diagnostics } from "./api/diagnostics.ts";
import type { Endpoint } from "./api/endpoint.ts";
import { type BootConfig, PATHS } from "./config.ts";
import { bounceRoutes } from "./container/bounce-routes.ts";
import { enableControllers } from "./container/cgroups.ts";
import { InnerContainer, type Step, timed } from "./container/container.ts";
import { Crun } from "./container/crun.ts";
import { type Layer, RootFilesystem } from "./container/rootfs.ts";
import { ExecEndpoint } from "./exec/index.ts";
import { HelperClient } from "./helper/index.ts";
import { Firewall, firewallRules } from "./network/firewall.ts";
import { Resolver } from "./network/resolver.ts";
import { Sprite } from "./sprite.ts";
import type { Volume } from "./volume/volume.ts";

/** What the launcher's kind decides: a microVM has disks, a launcher made of namespaces would have folders. */
export interface Platform {
  layers: readonly Layer[];
  volume(runner: CommandRunner): Volume;
  /** before anything else: modules, uplink */
  prepare(runner: CommandRunner): Promise<void>;
}

/** The pilot's parts, constructed and wired; nothing runs yet. */
export class PilotContext {
  readonly log: Logger;
  readonly config: BootConfig;
  readonly helper: HelperClient;
  readonly sprite: Sprite;
  readonly container: InnerContainer;
  readonly volume: Volume;
  readonly firewall: Firewall;
  /** what keeps this sprite awake */
  readonly activity = new Activity();
  /** the public API, family by family */
  readonly endpoints: readonly Endpoint[];
  readonly #platform: Platform;
  readonly #runner: CommandRunner;
  readonly #rootfs: RootFilesystem;
  readonly #crun: Crun;
  readonly #resolver: Resolver;

  constructor(config: BootConfig, platform: Platform, overrides: { runner?: CommandRunner } = {}) {
    this.config = config;
    this.#platform = platform;
    this.log = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime });
    this.#runner = overrides.runner ?? new SystemCommandRunner();
    this.helper = new HelperClient(PATHS.helperSocket);
    this.volume = platform.volume(this.#runner);
    this.sprite = new Sprite(this.helper, config.pilotToken, config.identity);
    this.firewall = new Firewall(this.#runner);
    this.#rootfs = new RootFilesystem(platform.layers, this.helper, this.#runner);
    this.#crun = new Crun(this.#runner);
    this.container = new InnerContainer({ crun: this.#crun, rootfs: this.#rootfs, helper: this.helper, volume: this.volume });
    this.#resolver = new Resolver(config.network.dns);
    this.endpoints = this.#createEndpoints();
  }

  #createEndpoints(): Endpoint[] {
    const { helper, container, log, sprite, uptimeMs } = this;
    return [
      new ExecEndpoint({ helper, container, log, environment: () => sprite.identity?.environment ?? {} }),
      { routes: bounceRoutes(container, uptimeMs) },
      { routes: diagnostics(this.#runner, PATHS.crunState) },
    ];
  }

  /** Brings the sprite up. A pilot that was restarted finds the mounts of its predecessor and starts the container anew. */
  async start(): Promise<void> {
    const { log } = this;
    const { device, address, gateway } = this.config.network;
    const restarted = await this.#clearPredecessor();
    const steps: Step[] = [];
    if (!restarted) {
      await enableControllers();
      await writeFile("/proc/sys/net/ipv4/ip_forward", "1");
      await Promise.all([
        timed(steps, "platform", () => this.#platform.prepare(this.#runner)),
        timed(steps, "volume", () => this.volume.attach()),
        timed(steps, "layers", () => this.#rootfs.mountLayers()),
      ]);
      await timed(steps, "firewall", () => this.firewall.apply(firewallRules({ device, address, gateway })));
    }
    await writeFile(PATHS.machineId, "", { mode: 0o444 });
    if (this.config.identity !== undefined) await this.sprite.adopt(this.config.identity);
    await this.#crun.writeBundle();
    steps.push(...(await this.container.start()));
    this.#resolver.start();
    log.info({ steps, restarted, processMs: Math.round(performance.now()), uptimeMs: await this.uptimeMs() }, "inner container runs");
  }

  /** Ends the container and leaves the volume clean. */
  async stop(): Promise<void> {
    this.#resolver.stop();
    await this.container.stop();
    await this.volume.detach();
    await this.helper.sync();
  }

  uptimeMs = kernelUptimeMs;

  /** What a pilot that died left: the container's processes and its root mount go, volume and layers stay. */
  async #clearPredecessor(): Promise<boolean> {
    const mounts = await readFile("/proc/self/mounts", "utf8");
    const isMounted = (path: string) => mounts.split("\n").some((line) => line.split(" ")[1] === path);
    if (!isMounted(PATHS.volume)) return false;
    await this.#resolver.endPredecessor();
    await this.helper.killCgroup("/sys/fs/cgroup/sprite");
    await this.#crun.forget();
    if (isMounted(PATHS.rootfs)) await this.#rootfs.unmount();
    return true;
  }
}

const kernelUptimeMs = async (): Promise<number> => Math.round(Number.parseFloat(await readFile("/proc/uptime", "utf8")) * 1000);
