import { createHash, randomBytes } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { markUsed, removeUnused } from "@hob/images";
import type { CommandRunner } from "@hob/linux";
import { HobError, type Identity } from "@hob/protocol";
import type { Vm } from "../vmm/driver.ts";
import { readJson, writeJson } from "../vmm/qemu/processes.ts";
import { pilotAnnounced } from "./announcement.ts";
import { writeBootConfig } from "./boot-config.ts";
import { bootVm, createVolume, type VmFactory } from "./machine.ts";
import type { RuntimePaths, SpriteFiles } from "./paths.ts";
import { PilotClient } from "./pilot-client.ts";
import type { MachineSpec } from "./sprite-runtime.ts";
import { syncAll } from "./sync.ts";
import { warmUp } from "./warm-up.ts";

const BOOT_TIMEOUT_MS = 120_000;
const COPY_TIMEOUT_MS = 60_000;
/** The name may be taken by what is no template, and again while that is removed. */
const PUBLISH_ATTEMPTS = 3;
/** A template that this daemon did not clone for so long is no longer held against removal. */
const HELD_MS = 24 * 60 * 60_000;

/** A saved VM of an empty sprite: booted once, cloned for every create of its size. */
export interface Template {
  files: SpriteFiles;
  /** accepted by the pilot in the saved memory, until a clone gets its own */
  pilotToken: string;
}

export interface TemplateEvents {
  building(machine: MachineSpec): void;
  built(machine: MachineSpec, elapsedMs: number): void;
}

/** Rehearses what the first request to a clone does; the clone's own identity replaces it. */
const templateIdentity = (pilotToken: string): Identity => ({
  id: "template",
  name: "template",
  organization: "",
  url: "",
  machineId: "0".repeat(32),
  pilotToken,
  environment: {},
});

/** Templates by image set, machine size and VMM. Built when first needed, or ahead of that; several waiters share one build. */
export class TemplateStore {
  readonly #paths: RuntimePaths;
  readonly #factory: VmFactory;
  readonly #runner: CommandRunner;
  readonly #events: TemplateEvents;
  readonly #pending = new Map<string, Promise<Template>>();
  /** VMs that are to become templates */
  readonly #booting = new Set<Vm>();
  /** by key; see #hold */
  readonly #held = new Map<string, { descriptor: number; usedAtMs: number }>();
  #stopped = false;

  constructor(paths: RuntimePaths, factory: VmFactory, runner: CommandRunner, events: TemplateEvents) {
    this.#paths = paths;
    this.#factory = factory;
    this.#runner = runner;
    this.#events = events;
  }

  async ensure(machine: MachineSpec): Promise<Template> {
    const key = await this.#key(machine);
    const pending = this.#pending.get(key) ?? this.#findOrBuild(key, machine).finally(() => this.#pending.delete(key));
    this.#pending.set(key, pending);
    return pending;
  }

  /** Copies memory, disk and devices for a new sprite; sparse, and shared with the template where the file system can. */
  async clone(template: Template, files: SpriteFiles): Promise<void> {
    const names = [template.files.ram, template.files.volume, template.files.state, template.files.bootConfig];
    const argv = ["cp", "--sparse=always", "--reflink=auto", "--no-preserve=mode", ...names, files.directory] as const;
    await this.#runner.run({ argv, timeoutMs: COPY_TIMEOUT_MS }).catch((cause: Error) => {
      const full = cause.message.includes("No space left");
      throw new HobError(
        full ? "no_space" : "internal",
        `clone the template to ${files.directory}: ${full ? "the disk is full" : cause.message}`,
        {
          hint: "'hob doctor' shows the space that sprites need",
          cause,
        },
      );
    });
  }

  /** Lets go of the templates that were not used for a day: then whoever prunes the cache may remove them. */
  releaseUnused(nowMs = Date.now()): void {
    for (const [key, { usedAtMs }] of this.#held) if (nowMs - usedAtMs > HELD_MS) this.#release(key);
  }

  /** Ends the builds that are under way, and leaves nothing of them. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const builds = [...this.#pending.values()];
    await Promise.all([...this.#booting].map((vm) => vm.kill()));
    await Promise.allSettled(builds);
    for (const key of [...this.#held.keys()]) this.#release(key);
  }

  /** An open file of a template shows other processes that it is in use. */
  #hold(key: string): void {
    const descriptor = openSync(this.#paths.template(key).stateInfo, "r");
    this.#release(key);
    this.#held.set(key, { descriptor, usedAtMs: Date.now() });
  }

  #release(key: string): void {
    const held = this.#held.get(key);
    if (held !== undefined) closeSync(held.descriptor);
    this.#held.delete(key);
  }

  /** Looked up each time: another daemon of this user may have removed it as unused. */
  async #findOrBuild(key: string, machine: MachineSpec): Promise<Template> {
    const found = await this.#find(key);
    if (found !== undefined) return found;
    const start = performance.now();
    this.#events.building(machine);
    const template = await this.#build(key, machine);
    this.#events.built(machine, performance.now() - start);
    return template;
  }

  async #find(key: string): Promise<Template | undefined> {
    const files = this.#paths.template(key);
    const found = markUsed(this.#paths.templates, key) ? await readJson<{ pilotToken: string }>(files.stateInfo) : undefined;
    if (found === undefined) return undefined;
    this.#hold(key);
    return { files, pilotToken: found.pilotToken };
  }

  async #build(key: string, machine: MachineSpec): Promise<Template> {
    // Daemons in containers that share the cache may have the same process id.
    const building = this.#paths.template(`.building-${process.pid}-${key}-${randomBytes(4).toString("hex")}`);
    await mkdir(building.directory, { recursive: true, mode: 0o700 });
    try {
      const pilotToken = randomBytes(32).toString("hex");
      await createVolume(building.volume, machine.storageGb);
      await writeBootConfig(building.bootConfig, pilotToken, undefined);
      const vm = await bootVm(this.#factory, building, machine);
      this.#booting.add(vm);
      try {
        if (this.#stopped) throw new HobError("shutting_down", "build a template: the daemon is stopping");
        let gone = false;
        vm.exited.then(() => {
          gone = true;
        });
        const pilot = new PilotClient(vm.pilotPort, pilotToken);
        await pilotAnnounced(building.console, 0, () => !gone);
        const { containerFailure } = await pilot.waitUntilReady(BOOT_TIMEOUT_MS, () => !gone);
        if (containerFailure !== undefined) throw new HobError("vm_failed", `build a template: ${containerFailure}`);
        await warmUp(vm.pilotPort, pilotToken);
        await pilot.resumed(templateIdentity(pilotToken), {}, BOOT_TIMEOUT_MS, () => !gone);
        await pilot.prepareSave();
        await vm.save(building.state);
      } finally {
        this.#booting.delete(vm);
        await vm.kill();
      }
      await writeJson(building.stateInfo, { pilotToken });
      return await this.#publish(building, key);
    } finally {
      await rm(building.directory, { recursive: true, force: true });
      await rm(building.run, { recursive: true, force: true });
    }
  }

  /**
   * Gives a template its name. It serves for days and over crashes of the host, so all of it is on the disk before: a torn one
   * would start sprites that are broken, one after the other.
   *
   * Another daemon may have built the same one meanwhile, and be cloning it: its own stays, whole, and this one uses it as well.
   */
  async #publish(building: SpriteFiles, key: string): Promise<Template> {
    const { ram, volume, state, bootConfig, stateInfo, directory } = building;
    await syncAll([ram, volume, state, bootConfig, stateInfo, directory]);
    for (let attempt = 1; ; attempt++) {
      const isFirst = await isMoved(directory, this.#paths.template(key).directory);
      if (isFirst) await syncAll([this.#paths.templates]);
      const found = await this.#find(key);
      if (found !== undefined) return found;
      if (isFirst || attempt >= PUBLISH_ATTEMPTS)
        throw new HobError("internal", `keep a template: ${this.#paths.template(key).directory} is not what was written there`);
      // What is there and no template is nobody's: it goes as a whole.
      await removeUnused(this.#paths.templates, key, Number.POSITIVE_INFINITY);
    }
  }

  async #key(machine: MachineSpec): Promise<string> {
    return `${await this.#prefix()}-${machine.cpus}cpu-${machine.ramMb}mb-${machine.storageGb}gb`;
  }

  async #prefix(): Promise<string> {
    const hash = createHash("sha256")
      .update(this.#factory.images.hash)
      .update(await this.#factory.driver.fingerprint());
    return hash.digest("hex").slice(0, 16);
  }
}

/** rename(2) of a folder: false when there is another, which is not empty. */
async function isMoved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOTEMPTY" || code === "EEXIST") return false;
    throw error;
  }
}
