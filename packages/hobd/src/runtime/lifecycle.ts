import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { HobError, type Identity, type StorageLag } from "@hob/protocol";
import type { Logger } from "pino";
import type { Vm } from "../vmm/driver.ts";
import { type AdoptionParts, takeOverVm } from "./adoption.ts";
import { consoleEnd, pilotAnnounced } from "./announcement.ts";
import { rememberIdentity, writeBootConfig } from "./boot-config.ts";
import { bounded } from "./bounded.ts";
import { type SpriteEntries, type SpriteEntry, withNewestPolicies } from "./entries.ts";
import { explainStart } from "./failed-start.ts";
import { Leftovers } from "./leftovers.ts";
import { aliveness, bootVm, goesOn, restoreVm, type VmFactory } from "./machine.ts";
import type { RuntimePaths, SpriteFiles } from "./paths.ts";
import { PilotClient } from "./pilot-client.ts";
import { lagOf, noteRest } from "./rest.ts";
import { SavedStates } from "./saved-state.ts";
import type { MachineSpec } from "./sprite-runtime.ts";
import { hasVolume, isOwnershipLost, removeLocalCopy, type StorageLink, type StorageLinks } from "./storage-link.ts";
import type { TemplateStore } from "./templates.ts";
import type { AskAgain } from "./verify-later.ts";

const RESUME_TIMEOUT_MS = 15_000;
const BOOT_TIMEOUT_MS = 120_000;
/** A pilot that shuts down gives itself 15 s. */
const SHUTDOWN_TIMEOUT_MS = 20_000;
/** Before a save at the daemon's end: a flush that takes longer would take the time of the save. */
const FLUSH_TIMEOUT_MS = 5_000;

export interface LifecycleParts {
  paths: RuntimePaths;
  factory: VmFactory;
  entries: SpriteEntries;
  templates: TemplateStore;
  links: StorageLinks;
  log: Logger;
  /** between questions to a store that does not say whose a sprite is */
  askAgainMs?: AskAgain;
  /** between looks at a VM that waits for room on the disk */
  lookMs?: number;
}

/** How one sprite's VM comes up and goes down. All of it is called from within the sprite's queue. */
export class VmLifecycle {
  readonly saved: SavedStates;
  readonly #parts: LifecycleParts;
  readonly #leftovers: Leftovers;
  readonly #adoption: AdoptionParts;

  constructor(parts: LifecycleParts) {
    this.#parts = parts;
    this.#leftovers = new Leftovers(parts);
    this.#adoption = {
      ...parts,
      leftovers: this.#leftovers,
      connect: (...args) => this.#connect(...args),
      attach: (...args) => this.#attach(...args),
      onLost: (...args) => this.#noteLost(...args),
    };
    this.saved = new SavedStates(parts.factory);
  }

  /** Lets a save go on if there is one that fits, and else boots from the disk. */
  async wake(entry: SpriteEntry, known: Identity, machine: MachineSpec): Promise<void> {
    const identity = withNewestPolicies(entry, known);
    const files = this.#parts.paths.sprite(entry.id);
    const link = await this.#claimLocal(files, identity, machine);
    if (link === undefined) return this.fetch(entry, identity, machine);
    if (await this.saved.isRestorable(files)) {
      try {
        await this.saved.verify(files);
        return await this.restore(entry, identity, machine, identity.pilotToken, link);
      } catch (error) {
        this.#parts.log.warn({ id: entry.id, err: error }, "restore failed, starting from the disk");
      }
    }
    await this.boot(entry, identity, machine, await this.#parts.links.forLocal(files, entry.id, machine));
  }

  /** Makes a VM like a new one, and has it fetch the sprite from the object store. */
  async fetch(entry: SpriteEntry, identity: Identity, machine: MachineSpec): Promise<void> {
    const { templates, paths, links, log } = this.#parts;
    const files = paths.sprite(entry.id);
    log.info({ id: entry.id }, "the sprite is fetched from the object store");
    const template = await templates.ensure(machine);
    entry.bootId = randomUUID();
    await mkdir(files.directory, { recursive: true, mode: 0o700 });
    await removeLocalCopy(files);
    const link = await links.forRemote(files, entry.id);
    await templates.clone(template, files);
    await this.restore(entry, identity, machine, template.pilotToken, link);
    await this.saved.noteImages(files);
  }

  /** undefined: what this machine has, if anything, is out of date */
  async #claimLocal(files: SpriteFiles, { id }: Identity, machine: MachineSpec): Promise<StorageLink | undefined> {
    if (!(await hasVolume(files))) return undefined;
    try {
      return await this.#parts.links.forLocal(files, id, machine);
    } catch (error) {
      if (!isOwnershipLost(error)) throw error;
      this.#parts.log.warn({ id, err: error }, "the copy of the sprite on this machine is out of date");
      return undefined;
    }
  }

  /** @param token what the pilot in the saved memory accepts */
  async restore(entry: SpriteEntry, identity: Identity, machine: MachineSpec, token: string, link: StorageLink): Promise<void> {
    const start = performance.now();
    const files = this.#parts.paths.sprite(entry.id);
    const vm = await restoreVm(this.#parts.factory, files, machine);
    this.#parts.log.info({ id: entry.id, vmmMs: Math.round(performance.now() - start) }, "memory restored");
    await this.#bringUp(entry, identity, vm, link, async (alive) => {
      const pilot = new PilotClient(vm.pilotPort, token);
      await pilot.resumed(identity, link.told, RESUME_TIMEOUT_MS, alive);
      this.#connect(entry, identity, vm, link);
      await link.settle(pilot);
      await rememberIdentity(files.bootConfig, identity, link.settled);
    });
  }

  async boot(entry: SpriteEntry, identity: Identity, machine: MachineSpec, link: StorageLink): Promise<void> {
    const files = this.#parts.paths.sprite(entry.id);
    entry.bootId = randomUUID();
    await this.saved.drop(files);
    await writeBootConfig(files.bootConfig, identity.pilotToken, identity, link.assignment);
    await this.saved.noteImages(files);
    const consoleBefore = await consoleEnd(files.console);
    const vm = await bootVm(this.#parts.factory, files, machine);
    await this.#bringUp(entry, identity, vm, link, async (alive) => {
      await pilotAnnounced(files.console, consoleBefore, alive);
      // A volume that reads from the store needs it before the pilot is ready.
      this.#connect(entry, identity, vm, link);
      const pilot = new PilotClient(vm.pilotPort, identity.pilotToken);
      await pilot.waitUntilReady(BOOT_TIMEOUT_MS, alive);
      await pilot.resumed(identity, link.told, RESUME_TIMEOUT_MS, alive);
      await link.settle(pilot);
    });
  }

  /** Takes over a VM of an earlier daemon, if there is one that can be. */
  async adopt(entry: SpriteEntry, identity: Identity, machine: MachineSpec): Promise<void> {
    const { paths, factory } = this.#parts;
    const files = paths.sprite(entry.id);
    const vm = await factory.driver.adopt(files.run);
    if (vm === undefined) {
      await this.#leftovers.clear(entry);
      entry.status = (await this.saved.isRestorable(files)) ? "warm" : "cold";
      if (entry.status === "cold") await this.saved.dropWorthless(files);
      return;
    }
    await takeOverVm(this.#adoption, { entry, identity, machine, files, vm });
  }

  /** Saves and ends the VM of a sprite whose data is on its disk. When that fails the VM goes on, if it can. @throws what it threw */
  async sleep(entry: SpriteEntry, lag: StorageLag | null = null): Promise<void> {
    const { vm } = entry;
    if (vm === undefined) return;
    entry.vm = undefined;
    try {
      await this.#save(entry, vm, lag);
    } catch (error) {
      if (await goesOn(vm, entry.pilotToken)) entry.vm = vm;
      else await this.#lose(entry, vm, error);
      throw error;
    }
  }

  /** Saves and ends the VM, whatever happens: one that cannot be saved is killed and starts from its disk. */
  async stop(entry: SpriteEntry): Promise<void> {
    const { vm } = entry;
    if (vm === undefined) return;
    // The memory may be worthless to the next daemon, if it brings other images: then the disk must be complete.
    await bounded(new PilotClient(vm.pilotPort, entry.pilotToken).prepareSave(), FLUSH_TIMEOUT_MS);
    entry.vm = undefined;
    await this.#save(entry, vm, null).catch((error: unknown) => this.#lose(entry, vm, error));
  }

  /** Ends a VM in good order, or, when it does not end in time, at once; and drops what is saved. Then there is only the disk. */
  async shutDown(entry: SpriteEntry): Promise<void> {
    const { vm } = entry;
    entry.vm = undefined;
    if (vm !== undefined) {
      const start = performance.now();
      let orderly = false;
      const ended = new PilotClient(vm.pilotPort, entry.pilotToken).shutdown().then(async () => {
        await vm.exited;
        orderly = true;
      });
      await bounded(ended, SHUTDOWN_TIMEOUT_MS);
      await vm.kill();
      const fields = { id: entry.id, ms: Math.round(performance.now() - start) };
      if (orderly) this.#parts.log.info(fields, "shut down");
      else this.#parts.log.warn(fields, "did not shut down in time, and was ended");
    }
    await this.chill(entry);
  }

  /** Drops the memory of a sprite without a VM. */
  async chill(entry: SpriteEntry): Promise<void> {
    await this.saved.drop(this.#parts.paths.sprite(entry.id));
    await this.#leftovers.clear(entry);
    this.#parts.entries.setStatus(entry, "cold");
  }

  async #save(entry: SpriteEntry, vm: Vm, lag: StorageLag | null): Promise<void> {
    const files = this.#parts.paths.sprite(entry.id);
    // Nothing of the user's runs between a wake and the `resumed` that brings the policies of that time. What cannot be
    // frozen is saved as it is: it does not answer now, and a restored pilot that does not answer either is ended.
    const said = await new PilotClient(vm.pilotPort, entry.pilotToken).freeze().catch(() => undefined);
    // Before the save: a daemon that is killed in between must not forget what the store lacks.
    await noteRest(files, said, lag);
    try {
      await vm.save(files.state);
      await this.saved.complete(files);
    } catch (error) {
      await Promise.all([files.state, files.stateInfo, files.rest].map((path) => rm(path, { force: true })));
      // What it said is not so any more when it goes on; what the store lacks it may lack for long, should the VM be lost now.
      await noteRest(files, undefined, lagOf(said, lag));
      throw error;
    }
    await this.#leftovers.clear(entry, vm);
    this.#parts.entries.setStatus(entry, "warm");
  }

  async #lose(entry: SpriteEntry, vm: Vm, error: unknown): Promise<void> {
    this.#parts.log.error({ id: entry.id, err: error }, "save failed; the sprite will start from its disk");
    await this.#leftovers.clear(entry, vm);
    this.#parts.entries.setStatus(entry, "cold");
  }

  /** A started VM counts as running once its pilot has answered; otherwise it is ended. */
  async #bringUp(
    entry: SpriteEntry,
    identity: Identity,
    vm: Vm,
    link: StorageLink,
    greet: (alive: () => boolean) => Promise<void>,
  ): Promise<void> {
    entry.starting = vm;
    try {
      if (this.#parts.entries.isStopping) throw new HobError("shutting_down", "start a VM: the daemon is stopping");
      await greet(aliveness(vm));
    } catch (error) {
      link[Symbol.dispose]();
      await this.#leftovers.clear(entry, vm);
      throw await explainStart(error, this.#parts.paths.sprite(entry.id).directory);
    } finally {
      entry.starting = undefined;
    }
    this.#attach(entry, identity, vm, link);
  }

  /** Opens the pilot's way to the object store. Another owner of the sprite makes this machine's copy worthless. */
  #connect(entry: SpriteEntry, { pilotToken: token }: Identity, vm: Vm, link: StorageLink): void {
    const endpoint = () => ({ host: "127.0.0.1", port: vm.pilotPort, token });
    link.connect(endpoint, () => this.#noteLost(entry, vm));
  }

  #noteLost(entry: SpriteEntry, vm: Vm): void {
    this.#parts.entries.inOrder(entry.id, () => this.#abandon(entry, vm)).catch(() => {});
  }

  async #abandon(entry: SpriteEntry, vm: Vm): Promise<void> {
    if (entry.vm !== vm) return;
    this.#parts.log.warn({ id: entry.id }, "another host has taken the sprite over; it is ended here");
    entry.vm = undefined;
    entry.lostAt = performance.now();
    await this.#leftovers.clear(entry, vm);
    await removeLocalCopy(this.#parts.paths.sprite(entry.id));
    this.#parts.entries.setStatus(entry, "cold");
  }

  #attach(entry: SpriteEntry, identity: Identity, vm: Vm, link: StorageLink): void {
    const { entries, log } = this.#parts;
    const disconnect = () => link[Symbol.dispose]();
    vm.exited.then(disconnect, disconnect);
    entry.vm = vm;
    entry.pilotToken = identity.pilotToken;
    entries.setStatus(entry, "running");
    vm.exited.then(
      () => {
        if (entry.vm !== vm) return;
        entry.vm = undefined;
        log.warn({ id: entry.id }, "the VM ended by itself; its sprite starts from its disk at the next request");
        entries.setStatus(entry, "cold");
        this.#leftovers.clearInOrder(entry, vm);
      },
      () => {},
    );
  }
}
