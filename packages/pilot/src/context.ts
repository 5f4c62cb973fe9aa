import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type CommandRunner, SystemCommandRunner } from "@hob/linux";
import type { StorageLag } from "@hob/protocol";
import type { Hono } from "hono";
import { type Logger, pino } from "pino";
import { Activity } from "./activity/activity.ts";
import { diagnostics } from "./api/diagnostics.ts";
import type { Endpoint } from "./api/endpoint.ts";
import { CheckpointMounts, SHOWN } from "./checkpoints/checkpoint-mounts.ts";
import { Checkpoints } from "./checkpoints/checkpoints.ts";
import { startHourly } from "./checkpoints/hourly.ts";
import { checkpointRoutes } from "./checkpoints/routes.ts";
import { type BootConfig, PATHS } from "./config.ts";
import { bounceRoutes } from "./container/bounce-routes.ts";
import { enableControllers } from "./container/cgroups.ts";
import type { Confinement } from "./container/confinement.ts";
import { InnerContainer, type Step, timed } from "./container/container.ts";
import { Crun } from "./container/crun.ts";
import { type Layer, RootFilesystem } from "./container/rootfs.ts";
import { SHOWN_LOGS } from "./container/spec.ts";
import { settle } from "./durability/settle.ts";
import { SpriteStorage } from "./durability/sprite-storage.ts";
import { ExecEndpoint, JournalStore } from "./exec/index.ts";
import { FileOperations, FilesEndpoint } from "./files/index.ts";
import { HelperClient } from "./helper/index.ts";
import { historyRoutes } from "./history/routes.ts";
import { CheckpointTrees } from "./history/trees.ts";
import { IngressEndpoint } from "./ingress/endpoint.ts";
import { HttpTarget } from "./ingress/http-target.ts";
import { infoRoutes } from "./inside/info-routes.ts";
import { createInsideServer, listenInside } from "./inside/server.ts";
import { LogDirectory } from "./logs/log-directory.ts";
import { AuditLog } from "./network/audit-log.ts";
import { Firewall, firewallRules } from "./network/firewall.ts";
import { NetworkPolicy } from "./network/network-policy.ts";
import { Refuser } from "./network/refuser.ts";
import { Resolver } from "./network/resolver.ts";
import { networkLogRoutes } from "./policies/log-routes.ts";
import { Policies } from "./policies/policies.ts";
import { InsideDialer } from "./ports/dialer.ts";
import { PortsEndpoint } from "./ports/endpoint.ts";
import { lookUpInside } from "./ports/name-lookup.ts";
import { PortFeed } from "./ports/port-feed.ts";
import { createServices, type ServiceManager, serviceRoutes } from "./services/index.ts";
import { Sprite } from "./sprite.ts";
import { taskRoutes } from "./tasks/routes.ts";
import { Tasks } from "./tasks/tasks.ts";
import type { OriginResolver, ThinVolume } from "./volume/thin-volume.ts";
import { clearMounts, TreeSwitch } from "./volume/tree-switch.ts";

/** What the launcher's kind decides: a microVM has disks, a launcher made of namespaces would have folders. */
export interface Platform {
  layers: readonly Layer[];
  volume(runner: CommandRunner, helper: HelperClient, origins: OriginResolver): ThinVolume;
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
  readonly volume: ThinVolume;
  /** the object store, as far as the host opens it */
  readonly storage: SpriteStorage;
  /** exchanges the tree that the container runs on */
  readonly treeSwitch: TreeSwitch;
  readonly checkpoints: Checkpoints;
  readonly firewall: Firewall;
  /** what keeps this sprite awake */
  readonly activity = new Activity();
  readonly exec: ExecEndpoint;
  readonly policies: Policies;
  /** what services wrote */
  readonly logs = new LogDirectory(join(SHOWN_LOGS, "services"));
  readonly services: ServiceManager;
  readonly tasks: Tasks;
  /** the public API, family by family */
  readonly endpoints: readonly Endpoint[];
  readonly uptimeMs = kernelUptimeMs;
  readonly #platform: Platform;
  readonly #runner: CommandRunner;
  readonly #rootfs: RootFilesystem;
  readonly #crun: Crun;
  readonly #resolver: Resolver;
  readonly #checkpointMounts: CheckpointMounts;
  readonly #portFeed: PortFeed;
  /** variables that the sprite was created with */
  readonly #environment = (): Readonly<Record<string, string>> => this.sprite.identity?.environment ?? {};
  #stopHourly: () => void = () => {};
  readonly #audit = new AuditLog(`${PATHS.state}/policy/network.ndjson`);

  constructor(config: BootConfig, platform: Platform, overrides: { runner?: CommandRunner } = {}) {
    this.config = config;
    this.#platform = platform;
    this.log = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime });
    this.#runner = overrides.runner ?? new SystemCommandRunner();
    this.helper = new HelperClient(PATHS.helperSocket);
    this.storage = new SpriteStorage({ helper: this.helper, log: this.log, assignment: config.storage });
    this.volume = platform.volume(this.#runner, this.helper, (name) => this.storage.origins.resolve(name));
    this.sprite = new Sprite(this.helper, config.pilotToken, config.identity);
    this.firewall = new Firewall(this.#runner);
    this.#rootfs = new RootFilesystem(platform.layers, this.helper);
    this.#crun = new Crun(this.#runner);
    this.container = new InnerContainer({ crun: this.#crun, rootfs: this.#rootfs, helper: this.helper, volume: this.volume });
    const { volume, helper, container, log } = this;
    this.treeSwitch = new TreeSwitch({ volume, helper, container, rootfs: this.#rootfs, abandon: (error) => this.#abandon(error) });
    this.#checkpointMounts = new CheckpointMounts({ volume, helper, rootfs: this.#rootfs, runner: this.#runner });
    this.checkpoints = new Checkpoints({
      volume,
      treeSwitch: this.treeSwitch,
      view: this.#checkpointMounts,
      shown: SHOWN,
      durableIds: () => this.storage.durability.durableIds(),
      giveUpUploaded: () => this.storage.giveUpUploaded(),
      pauseUploads: () => this.storage.pauseUploads(),
      onChanged: () => this.storage.durability.nudge(),
      now: () => new Date(),
      onError: (what, err) => log.error({ err }, what),
    });
    this.storage.use(volume, this.treeSwitch, this.checkpoints);
    this.#resolver = new Resolver(config.network.dns);
    this.policies = this.#createPolicies();
    this.#portFeed = new PortFeed({ helper, container });
    this.exec = this.#createExec();
    this.services = createServices({
      helper: this.helper,
      container: this.container,
      environment: this.#environment,
      log: this.log,
      definitions: join(PATHS.platform, "services"),
      logs: this.logs,
    });
    this.container.addTenant(this.services);
    this.tasks = new Tasks(join(PATHS.state, "tasks.json"), this.activity);
    this.endpoints = this.#createEndpoints();
  }

  #createExec(): ExecEndpoint {
    const { helper, container, log, activity } = this;
    const journals = new JournalStore(`${PATHS.state}/sessions`);
    return new ExecEndpoint({
      helper,
      container,
      log,
      journals,
      ports: this.#portFeed,
      onActivity: () => activity.touch(),
      environment: this.#environment,
    });
  }

  #createTrees(): CheckpointTrees {
    const { checkpoints, volume, log } = this;
    const onError = (what: string, err: unknown) => log.error({ err }, what);
    return new CheckpointTrees({ checkpoints, volume, mounts: this.#checkpointMounts, store: this.storage, onError });
  }

  #createPolicies(): Policies {
    const { firewall, container, uptimeMs } = this;
    const network = new NetworkPolicy({
      firewall,
      resolver: this.#resolver,
      refuser: new Refuser(),
      audit: this.#audit,
      mirror: PATHS.policyMirror,
      uptimeMs,
    });
    const confine = (confinement: Confinement) => container.confine(confinement);
    return new Policies({ network, confine, file: `${PATHS.runtime}/policies.json` });
  }

  #createEndpoints(): Endpoint[] {
    const { helper, container, log, sprite, services, uptimeMs, activity } = this;
    const ownNames = () => ["sprite", ...(sprite.identity === undefined ? [] : [sprite.identity.name])];
    const dialer = new InsideDialer({ helper, container, lookUp: lookUpInside(helper, container), ownNames });
    const target = new HttpTarget({ targets: { current: () => services.ensureHttpService() }, dialer, helper, container });
    return [
      this.exec,
      new FilesEndpoint({ helper, container, log }),
      new PortsEndpoint({ feed: this.#portFeed, dialer, activity }),
      new IngressEndpoint({ target, activity }),
      outsideAndInside(serviceRoutes(services)),
      outsideAndInside(taskRoutes(this.tasks)),
      { inside: infoRoutes(sprite) },
      { routes: bounceRoutes(container, uptimeMs) },
      // Before the checkpoints: `diff` is no id of one.
      { routes: historyRoutes({ trees: this.#createTrees(), operations: new FileOperations(helper, container), helper }) },
      outsideAndInside(checkpointRoutes(this.checkpoints)),
      ...this.storage.endpoints,
      { routes: networkLogRoutes(this.#audit) },
      { routes: diagnostics(this.#runner, PATHS.crunState, this.volume, PATHS.diskMeter) },
    ];
  }

  /**
   * Brings the sprite up. A pilot that was restarted finds the layers and the network of its predecessor.
   * @param listen called once this machine has its address: the volume may need the host before it can be mounted
   */
  async start(listen: () => Promise<void>): Promise<void> {
    const { log } = this;
    const { device, address, gateway } = this.config.network;
    // When the machine runs out of memory, the user's processes end, not the one that lets the user in.
    await writeFile("/proc/self/oom_score_adj", "-1000");
    const restarted = existsSync(PREPARED);
    const steps: Step[] = [];
    if (restarted) {
      // First: what the predecessor left may wait for a disk that the store has, and the way there is one that the host dials.
      await listen();
      await this.#clearPredecessor();
    } else {
      await enableControllers();
      await writeFile("/proc/sys/net/ipv4/ip_forward", "1");
    }
    const prepareNetwork = async () => {
      if (restarted) return;
      await timed(steps, "platform", () => this.#platform.prepare(this.#runner));
      await listen();
    };
    await Promise.all([
      prepareNetwork(),
      timed(steps, "volume", () => this.volume.attach()),
      timed(steps, "checkpoints", () => this.#checkpointMounts.prepare()),
      ...(restarted ? [] : [timed(steps, "layers", () => this.#rootfs.mountLayers())]),
    ]);
    if (!restarted) {
      await timed(steps, "firewall", () => this.firewall.apply(firewallRules({ device, address, gateway })));
      await writeFile(PREPARED, "");
    }
    await writeFile(PATHS.machineId, "", { mode: 0o444 });
    if (this.config.identity !== undefined) await this.sprite.adopt(this.config.identity);
    // Before anything of the user's runs.
    await timed(steps, "policies", () => this.policies.begin(this.config.identity, restarted));
    await timed(steps, "journals", () => this.exec.open());
    await this.tasks.load();
    await mkdir(SHOWN_LOGS, { recursive: true, mode: 0o755 });
    await listenInside(createInsideServer(this.endpoints, log), PATHS.apiSocket);
    steps.push(...(await this.container.startOrRetry()));
    if (this.container.failure !== undefined) log.error({ err: this.container.failure }, "the inner container does not start");
    this.checkpoints.start();
    this.storage.start();
    this.#stopHourly = startHourly(this.checkpoints, (err) => log.error({ err }, "hourly checkpoint"));
    log.info({ steps, restarted, processMs: Math.round(performance.now()), uptimeMs: await this.uptimeMs() }, "inner container runs");
  }

  /** Whether something of what is on the disk is in no checkpoint, or not in the object store. */
  async isUnsettled(): Promise<boolean> {
    const answers = await Promise.all([this.checkpoints.isChanged(), this.storage.durability.isBehind()]);
    return answers.includes(true);
  }

  /** Before a sleep: keeps what was changed, here and in the object store. Resolves after that time at the latest. */
  settle(waitMs: number): Promise<StorageLag | null> {
    const onError = (err: unknown) => this.log.error({ err }, "automatic checkpoint before a sleep");
    return settle({ checkpoints: this.checkpoints, durability: this.storage.durability, onError }, waitMs);
  }

  /** Ends the container and leaves the volume clean. */
  async stop(): Promise<void> {
    this.#stopHourly();
    await this.#resolver.stop();
    await this.checkpoints.settled();
    await this.treeSwitch.settled();
    await this.storage.stop();
    await this.container.stop();
    await this.exec.close();
    await this.#checkpointMounts.hideAll();
    await this.#audit.flush();
    await this.volume.detach();
    await this.helper.sync();
  }

  /** What a pilot that died left: the container's processes and all that is mounted of volumes goes, the layers stay. */
  async #clearPredecessor(): Promise<void> {
    await this.storage.origins.takeOver();
    await this.#resolver.endPredecessor();
    await this.helper.killCgroup("/sys/fs/cgroup/sprite");
    await this.#crun.forget();
    await clearMounts(this.helper);
  }

  /** The mounts are in a state that only a new start clears; PID 1 makes one. */
  #abandon(error: unknown): never {
    this.log.fatal({ err: error }, "the tree before could not be put back; starting anew");
    process.exit(1);
  }
}

/** There once the VM is set up as far as it outlives a pilot. */
const PREPARED = join(PATHS.runtime, "prepared");

const outsideAndInside = (routes: Hono): Endpoint => ({ routes, inside: routes });

const kernelUptimeMs = async (): Promise<number> => Math.round(Number.parseFloat(await readFile("/proc/uptime", "utf8")) * 1000);
