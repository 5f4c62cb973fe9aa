import { mkdir, readdir, readFile, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { Identity, SpriteStatus } from "@hob/protocol";
import { HobError } from "@hob/protocol";
import type { Logger } from "pino";
import type { Vm } from "../vmm/driver.ts";
import { readJson, writeJson } from "../vmm/qemu/processes.ts";
import { consoleEnd, pilotAnnounced } from "./announcement.ts";
import { writeBootConfig } from "./boot-config.ts";
import { bootVm, restoreVm, type VmFactory } from "./machine.ts";
import type { RuntimePaths, SpriteFiles } from "./paths.ts";
import { PilotClient } from "./pilot-client.ts";
import type { MachineSpec, PilotEndpoint, SpriteRuntime } from "./sprite-runtime.ts";
import type { TemplateStore } from "./templates.ts";

const RESUME_TIMEOUT_MS = 15_000;
const BOOT_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 20_000;

/** A VM that runs, or is being started or stopped. Work on one sprite happens in order. */
interface SpriteEntry {
  vm: Vm | undefined;
  status: SpriteStatus;
  queue: Promise<unknown>;
}

/** What a saved VM fits; anything else is started from its disk. */
interface StateInfo {
  images: string;
  vmm: string;
  /** memory saved before a crash of the host may be incomplete on disk */
  hostBoot: string;
}

export interface VmRuntimeParts {
  paths: RuntimePaths;
  factory: VmFactory;
  templates: TemplateStore;
  log: Logger;
}

/** Sprites as microVMs on this host. */
export class VmRuntime implements SpriteRuntime {
  readonly #parts: VmRuntimeParts;
  readonly #entries = new Map<string, SpriteEntry>();
  readonly #listeners: ((id: string, status: SpriteStatus) => void)[] = [];
  #stopping = false;

  constructor(parts: VmRuntimeParts) {
    this.#parts = parts;
  }

  async create(identity: Identity, machine: MachineSpec): Promise<void> {
    const { templates, paths } = this.#parts;
    const template = await templates.ensure(machine);
    await this.#inOrder(identity.id, async (entry) => {
      const files = paths.sprite(identity.id);
      try {
        const start = performance.now();
        await mkdir(files.directory, { recursive: true, mode: 0o700 });
        await templates.clone(template, files);
        const clonedMs = performance.now() - start;
        await this.#restore(entry, identity, machine, template.pilotToken);
        const totalMs = performance.now() - start;
        this.#parts.log.info(
          { id: identity.id, cloneMs: Math.round(clonedMs), restoreMs: Math.round(totalMs - clonedMs) },
          "forked from template",
        );
        // From now on a start from the disk takes the identity from there.
        await writeBootConfig(files.bootConfig, identity.pilotToken, identity);
      } catch (error) {
        await this.#remove(entry, identity.id);
        throw error;
      }
    });
  }

  endpoint(identity: Identity, machine: MachineSpec): Promise<PilotEndpoint> {
    const running = this.#entries.get(identity.id);
    if (running?.vm !== undefined && running.status === "running") return Promise.resolve(endpointOf(running.vm, identity));
    return this.#inOrder(identity.id, async (entry) => {
      if (entry.vm === undefined) await this.#wake(entry, identity, machine);
      if (entry.vm === undefined) throw new HobError("vm_failed", `start sprite ${identity.name}: its VM ended`);
      return endpointOf(entry.vm, identity);
    });
  }

  status(id: string): SpriteStatus {
    return this.#entries.get(id)?.status ?? "cold";
  }

  async destroy(id: string): Promise<void> {
    await this.#inOrder(id, (entry) => this.#remove(entry, id));
    this.#entries.delete(id);
  }

  async recover(known: readonly { identity: Identity; machine: MachineSpec }[]): Promise<void> {
    const ids = new Set(known.map(({ identity }) => identity.id));
    await Promise.all(known.map(({ identity }) => this.#inOrder(identity.id, (entry) => this.#adopt(entry, identity))));
    await this.#removeUnknown(ids);
    await this.#parts.templates.removeStale();
  }

  async stopAll(): Promise<void> {
    this.#stopping = true;
    const templatesStopped = bounded(this.#parts.templates.stop(), STOP_TIMEOUT_MS);
    const all = [...this.#entries].filter(([, entry]) => entry.vm !== undefined);
    await Promise.all(
      all.map(([id]) =>
        bounded(
          this.#inOrder(id, (entry) => this.#save(entry, id), true),
          STOP_TIMEOUT_MS,
        ),
      ),
    );
    // What could not be saved in time must not be left running.
    await Promise.all(all.map(([, entry]) => entry.vm?.kill()));
    await templatesStopped;
    await rmdir(this.#parts.paths.run).catch(() => {});
  }

  onStatusChange(listener: (id: string, status: SpriteStatus) => void): void {
    this.#listeners.push(listener);
  }

  async #wake(entry: SpriteEntry, identity: Identity, machine: MachineSpec): Promise<void> {
    const files = this.#parts.paths.sprite(identity.id);
    if (await this.#isRestorable(files)) {
      try {
        return await this.#restore(entry, identity, machine, identity.pilotToken);
      } catch (error) {
        this.#parts.log.warn({ id: identity.id, err: error }, "restore failed, starting from the disk");
      }
    }
    await this.#boot(entry, identity, machine);
  }

  async #restore(entry: SpriteEntry, identity: Identity, machine: MachineSpec, token: string): Promise<void> {
    const files = this.#parts.paths.sprite(identity.id);
    const start = performance.now();
    const vm = await restoreVm(this.#parts.factory, files, machine);
    this.#parts.log.info({ id: identity.id, vmmMs: Math.round(performance.now() - start) }, "memory restored");
    await this.#bringUp(entry, identity.id, vm, (alive) =>
      new PilotClient(vm.pilotPort, token).resumed(identity, RESUME_TIMEOUT_MS, alive),
    );
  }

  async #boot(entry: SpriteEntry, identity: Identity, machine: MachineSpec): Promise<void> {
    const files = this.#parts.paths.sprite(identity.id);
    await Promise.all([files.state, files.stateInfo, files.ram].map((path) => rm(path, { force: true })));
    await writeBootConfig(files.bootConfig, identity.pilotToken, identity);
    const consoleBefore = await consoleEnd(files.console);
    const vm = await bootVm(this.#parts.factory, files, machine);
    await this.#bringUp(entry, identity.id, vm, async (alive) => {
      await pilotAnnounced(files.console, consoleBefore, alive);
      const pilot = new PilotClient(vm.pilotPort, identity.pilotToken);
      await pilot.waitUntilReady(BOOT_TIMEOUT_MS, alive);
      await pilot.resumed(identity, RESUME_TIMEOUT_MS, alive);
    });
  }

  /** A started VM counts as running once its pilot has answered; otherwise it is ended. */
  async #bringUp(entry: SpriteEntry, id: string, vm: Vm, greet: (alive: () => boolean) => Promise<void>): Promise<void> {
    let gone = false;
    vm.exited.then(
      () => {
        gone = true;
      },
      () => {},
    );
    try {
      await greet(() => !gone);
    } catch (error) {
      await vm.kill();
      throw error;
    }
    this.#attach(entry, id, vm);
  }

  #attach(entry: SpriteEntry, id: string, vm: Vm): void {
    entry.vm = vm;
    this.#setStatus(entry, id, "running");
    vm.exited.then(
      () => {
        if (entry.vm !== vm) return;
        entry.vm = undefined;
        this.#parts.log.warn({ id }, "the VM ended by itself; its sprite starts from its disk at the next request");
        this.#setStatus(entry, id, "cold");
        return vm.kill();
      },
      () => {},
    );
  }

  async #save(entry: SpriteEntry, id: string): Promise<void> {
    const { vm } = entry;
    if (vm === undefined) return;
    const files = this.#parts.paths.sprite(id);
    entry.vm = undefined;
    try {
      await vm.save(files.state);
      await writeJson(files.stateInfo, await this.#stateInfo());
      this.#setStatus(entry, id, "warm");
    } catch (error) {
      this.#parts.log.error({ id, err: error }, "save failed; the sprite will start from its disk");
      await Promise.all([rm(files.state, { force: true }), rm(files.stateInfo, { force: true })]);
      this.#setStatus(entry, id, "cold");
    } finally {
      await vm.kill();
    }
    await rm(files.run, { recursive: true, force: true });
  }

  async #adopt(entry: SpriteEntry, identity: Identity): Promise<void> {
    const { paths, factory, log } = this.#parts;
    const files = paths.sprite(identity.id);
    const vm = await factory.driver.adopt(files.run);
    if (vm === undefined) {
      entry.status = (await this.#isRestorable(files)) ? "warm" : "cold";
      return;
    }
    const pilot = new PilotClient(vm.pilotPort, identity.pilotToken);
    try {
      await pilot.waitUntilReady(RESUME_TIMEOUT_MS, () => true);
      // The earlier daemon may have died between the restore and this; once more does no harm.
      await pilot.resumed(identity, RESUME_TIMEOUT_MS, () => true);
      this.#attach(entry, identity.id, vm);
    } catch (error) {
      log.warn({ id: identity.id, err: error }, "a VM of an earlier daemon does not answer; it is ended");
      await vm.kill();
    }
  }

  async #remove(entry: SpriteEntry, id: string): Promise<void> {
    const files = this.#parts.paths.sprite(id);
    const vm = entry.vm ?? (await this.#parts.factory.driver.adopt(files.run));
    entry.vm = undefined;
    await vm?.kill();
    await rm(files.directory, { recursive: true, force: true });
    await rm(files.run, { recursive: true, force: true });
    this.#setStatus(entry, id, "cold");
  }

  async #removeUnknown(ids: ReadonlySet<string>): Promise<void> {
    const { paths, factory } = this.#parts;
    const runs = new Set([...ids].map((id) => paths.sprite(id).run));
    for (const name of await readdir(paths.run)) {
      const directory = join(paths.run, name);
      if (runs.has(directory)) continue;
      await (await factory.driver.adopt(directory))?.kill();
      await rm(directory, { recursive: true, force: true });
    }
    for (const name of await readdir(paths.sprites)) {
      if (!ids.has(name)) await rm(join(paths.sprites, name), { recursive: true, force: true });
    }
  }

  async #isRestorable(files: SpriteFiles): Promise<boolean> {
    const [found, wanted] = [await readJson<StateInfo>(files.stateInfo), await this.#stateInfo()];
    return found?.images === wanted.images && found.vmm === wanted.vmm && found.hostBoot === wanted.hostBoot;
  }

  async #stateInfo(): Promise<StateInfo> {
    const { images, driver } = this.#parts.factory;
    const hostBoot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    return { images: images.hash, vmm: await driver.fingerprint(), hostBoot };
  }

  #setStatus(entry: SpriteEntry, id: string, status: SpriteStatus): void {
    if (entry.status === status) return;
    entry.status = status;
    for (const listener of this.#listeners) listener(id, status);
  }

  #inOrder<T>(id: string, work: (entry: SpriteEntry) => Promise<T>, whileStopping = false): Promise<T> {
    if (this.#stopping && !whileStopping) return Promise.reject(new HobError("shutting_down", "the daemon is stopping"));
    const entry = this.#entries.get(id) ?? { vm: undefined, status: "cold", queue: Promise.resolve() };
    this.#entries.set(id, entry);
    const run = () => work(entry);
    const next = entry.queue.then(run, run);
    entry.queue = next.catch(() => {});
    return next;
  }
}

const endpointOf = (vm: Vm, identity: Identity): PilotEndpoint => ({ host: "127.0.0.1", port: vm.pilotPort, token: identity.pilotToken });

async function bounded(work: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([work.catch(() => {}), limit]);
  clearTimeout(timer);
}
