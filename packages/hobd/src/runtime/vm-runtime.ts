import { mkdir, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import {
  HobError,
  type Identity,
  type PilotActivity,
  type SettleResponse,
  type SpriteStatus,
  type StorageLag,
  type StoredHistory,
} from "@hob/protocol";
import type { Logger } from "pino";
import type { CacheKeeper } from "../cache/keeper.ts";
import { OwnershipFile } from "../object-store/ownership-file.ts";
import { bounded } from "./bounded.ts";
import { refuseIfDestroyed, SpriteEntries, type SpriteEntry, withNewestPolicies } from "./entries.ts";
import { VmLifecycle } from "./lifecycle.ts";
import type { VmFactory } from "./machine.ts";
import type { RuntimePaths } from "./paths.ts";
import { PilotClient } from "./pilot-client.ts";
import { startReader } from "./reader-vm.ts";
import { readRest } from "./rest.ts";
import type { MachineSpec, Reader, Rest, SleepOutcome, SleepTerms, SpriteEndpoint, SpriteRuntime } from "./sprite-runtime.ts";
import { hasVolume, type StorageLinks } from "./storage-link.ts";
import type { TemplateStore } from "./templates.ts";

const STOP_TIMEOUT_MS = 20_000;
/** How long requests for a sprite that was lost to another host are refused. */
const LOST_REFUSED_MS = 15_000;

export interface VmRuntimeParts {
  paths: RuntimePaths;
  factory: VmFactory;
  templates: TemplateStore;
  cache: CacheKeeper;
  links: StorageLinks;
  log: Logger;
  /** size of the machine whose template is built ahead */
  prepare?: MachineSpec;
}

/** It may sleep, but something was changed that is not kept yet. */
interface Unsettled {
  kind: "unsettled";
  entry: SpriteEntry;
}

/** Sprites as microVMs on this host. */
export class VmRuntime implements SpriteRuntime {
  readonly #parts: VmRuntimeParts;
  readonly #entries = new SpriteEntries();
  readonly #lifecycle: VmLifecycle;

  constructor(parts: VmRuntimeParts) {
    this.#parts = parts;
    this.#lifecycle = new VmLifecycle({ ...parts, entries: this.#entries });
  }

  async create(identity: Identity, machine: MachineSpec): Promise<void> {
    const { templates, paths, links } = this.#parts;
    const template = await templates.ensure(machine);
    await this.#entries.inOrder(identity.id, async (entry) => {
      const files = paths.sprite(identity.id);
      try {
        const start = performance.now();
        await mkdir(files.directory, { recursive: true, mode: 0o700 });
        // The record of ownership comes before the volume: a volume without one would be taken for the sprite's own.
        const link = await links.forNew(files, identity.id, machine);
        await templates.clone(template, files);
        const clonedMs = performance.now() - start;
        await this.#lifecycle.restore(entry, identity, machine, template.pilotToken, link);
        const totalMs = performance.now() - start;
        this.#parts.log.info(
          { id: identity.id, cloneMs: Math.round(clonedMs), restoreMs: Math.round(totalMs - clonedMs) },
          "forked from template",
        );
        await this.#lifecycle.saved.noteImages(files);
      } catch (error) {
        await this.#remove(entry);
        throw error;
      }
    });
  }

  endpoint(identity: Identity, machine: MachineSpec, bootId?: string): Promise<SpriteEndpoint> {
    const known = this.#entries.get(identity.id);
    const isUp = known !== undefined && known.status === "running" && !known.closing;
    if (isUp && known.vm?.isStalled) return Promise.reject(diskFull(identity));
    const atOnce = isUp && hasMemoryOf(known, bootId) ? endpointOf(known) : undefined;
    if (atOnce !== undefined) return Promise.resolve(atOnce);
    return this.#entries.inOrder(identity.id, async (entry) => {
      refuseIfDestroyed(entry, `reach sprite ${identity.name}`);
      if (entry.vm === undefined) refuseIfJustLost(entry, identity);
      if (entry.vm === undefined && hasMemoryOf(entry, bootId)) await this.#lifecycle.wake(entry, identity, machine);
      // What could not be restored has been booted.
      const endpoint = hasMemoryOf(entry, bootId) ? endpointOf(entry) : undefined;
      if (endpoint === undefined) throw new HobError("vm_failed", `reach sprite ${identity.name}: its VM ended`);
      return endpoint;
    });
  }

  async applyPolicies(identity: Identity): Promise<void> {
    await this.#entries.inOrder(identity.id, async (entry) => {
      const { policies } = withNewestPolicies(entry, identity);
      if (policies === undefined) return;
      entry.policies = policies;
      if (entry.vm !== undefined) await new PilotClient(entry.vm.pilotPort, entry.pilotToken).applyPolicies(policies);
    });
  }

  status(id: string): SpriteStatus {
    return this.#entries.get(id)?.status ?? "cold";
  }

  async sleep({ id }: Identity, terms: SleepTerms): Promise<SleepOutcome> {
    const outcome = await this.#sleep(id, terms, true);
    if (outcome.kind !== "unsettled") return outcome;
    // Outside of the sprite's queue: it may take seconds, and whoever wants the sprite meanwhile has it at once.
    const { ready, lag, ...activity } = await this.#settle(outcome.entry, terms);
    if (!ready) return { kind: "awake", activity };
    const settled = await this.#sleep(id, terms, false, lag);
    return settled.kind === "unsettled" ? { kind: "awake", activity: undefined } : settled;
  }

  #sleep(id: string, terms: SleepTerms, unlessUnsettled: boolean, lag: StorageLag | null = null): Promise<SleepOutcome | Unsettled> {
    return this.#entries.closing(id, async (entry) => {
      if (entry.vm === undefined) return { kind: "asleep" };
      // The queue may have taken a while, and the answer of the pilot takes another: somebody may have come meanwhile.
      const isWanted = () => !terms.force && terms.inUse();
      if (isWanted()) return { kind: "awake", activity: undefined };
      const { idleMs, force } = terms;
      const request = { idleMs, force, settled: unlessUnsettled };
      const { ready, unsettled, ...activity } = await new PilotClient(entry.vm.pilotPort, entry.pilotToken).prepareSleep(request);
      if (isWanted()) return { kind: "awake", activity: undefined };
      if (unlessUnsettled && unsettled === true) return { kind: "unsettled", entry };
      if (!ready) return { kind: "awake", activity };
      await this.#lifecycle.sleep(entry, lag);
      return { kind: "asleep" };
    });
  }

  /** A failure keeps no sprite awake: whether it answers at all is found out by what comes next. */
  async #settle({ id, vm, pilotToken }: SpriteEntry, { idleMs, force, settleMs }: SleepTerms): Promise<SettleResponse> {
    try {
      const startedAt = performance.now();
      const settled = await new PilotClient(vm?.pilotPort ?? 0, pilotToken).settle({ idleMs, force, waitMs: settleMs });
      this.#parts.log.debug({ id, ready: settled.ready, lag: settled.lag, ms: Math.round(performance.now() - startedAt) }, "settled");
      return settled;
    } catch (error) {
      this.#parts.log.warn({ id, err: error }, "what was changed is not kept before the sleep");
      return { ready: true, holders: [], idleMs, lag: null };
    }
  }

  async activity(identity: Identity): Promise<PilotActivity | undefined> {
    const entry = this.#entries.get(identity.id);
    if (entry?.vm === undefined || entry.status !== "running") return undefined;
    return new PilotClient(entry.vm.pilotPort, entry.pilotToken).activity();
  }

  async rest(id: string): Promise<Rest> {
    const files = this.#parts.paths.sprite(id);
    const ownership = await new OwnershipFile(files.ownership).read().catch(() => undefined);
    return { hasCopy: await hasVolume(files), epoch: ownership?.epoch, ...(await readRest(files)) };
  }

  startReader(identity: Identity, machine: MachineSpec, history: StoredHistory): Promise<Reader> {
    return startReader(this.#parts, identity, machine, history);
  }

  chill(id: string): Promise<boolean> {
    return this.#entries.inOrder(id, async (entry) => {
      if (entry.vm !== undefined || entry.status !== "warm") return false;
      await this.#lifecycle.chill(entry);
      return true;
    });
  }

  restart(identity: Identity, machine: MachineSpec): Promise<void> {
    return this.#entries.closing(identity.id, async (entry) => {
      refuseIfDestroyed(entry, `restart sprite ${identity.name}`);
      await this.#lifecycle.shutDown(entry);
      await this.#lifecycle.wake(entry, identity, machine);
    });
  }

  upgrade(identity: Identity, machine: MachineSpec): Promise<boolean> {
    return this.#entries.closing(identity.id, async (entry) => {
      if (entry.vm === undefined && entry.status === "cold") return false;
      if (await this.#lifecycle.saved.hasPresentImages(this.#parts.paths.sprite(identity.id))) return false;
      const wasRunning = entry.vm !== undefined;
      await this.#lifecycle.shutDown(entry);
      if (wasRunning) await this.#lifecycle.wake(entry, identity, machine);
      return true;
    });
  }

  async destroy(id: string): Promise<void> {
    await this.#entries.inOrder(id, async (entry) => {
      entry.isDestroyed = true;
      await this.#remove(entry);
    });
    this.#entries.remove(id);
  }

  async recover(known: readonly { identity: Identity; machine: MachineSpec }[], { keepsUnknown = false } = {}): Promise<void> {
    const ids = new Set(known.map(({ identity }) => identity.id));
    await Promise.all(
      known.map(({ identity, machine }) => this.#entries.inOrder(identity.id, (entry) => this.#lifecycle.adopt(entry, identity, machine))),
    );
    await this.#endUnknown(ids);
    if (!keepsUnknown) await this.#removeUnknown(ids);
    await this.#parts.cache.start();
    this.#prepare();
  }

  /** Not before what a killed daemon left is gone: the VM of a template belongs to no sprite, and would be taken for a leftover. */
  #prepare(): void {
    const { templates, log, prepare } = this.#parts;
    if (prepare !== undefined) templates.ensure(prepare).catch((error: unknown) => log.error({ err: error }, "template not built"));
  }

  async stopAll(): Promise<void> {
    this.#entries.stop();
    const templatesStopped = bounded(this.#parts.templates.stop(), STOP_TIMEOUT_MS);
    const cacheStopped = bounded(this.#parts.cache.stop(), STOP_TIMEOUT_MS);
    // One whose pilot has not answered yet has nothing that could be saved.
    await Promise.all(this.#entries.starting().map((vm) => vm.kill()));
    const all = this.#entries.running().map(({ id, vm }) => ({ id, vm }));
    await Promise.all(
      all.map(({ id }) =>
        bounded(
          this.#entries.inOrder(id, (entry) => this.#lifecycle.stop(entry), true),
          STOP_TIMEOUT_MS,
        ),
      ),
    );
    // What could not be saved in time must not be left running.
    await Promise.all(all.map(({ vm }) => vm?.kill()));
    await Promise.all([templatesStopped, cacheStopped]);
    await rmdir(this.#parts.paths.run).catch(() => {});
  }

  onStatusChange(listener: (id: string, status: SpriteStatus) => void): void {
    this.#entries.onStatusChange(listener);
  }

  async #remove(entry: SpriteEntry): Promise<void> {
    const files = this.#parts.paths.sprite(entry.id);
    const vm = entry.vm ?? (await this.#parts.factory.driver.adopt(files.run));
    entry.vm = undefined;
    await vm?.kill();
    await rm(files.directory, { recursive: true, force: true });
    await rm(files.run, { recursive: true, force: true });
    this.#entries.setStatus(entry, "cold");
  }

  async #endUnknown(ids: ReadonlySet<string>): Promise<void> {
    const { paths, factory } = this.#parts;
    const runs = new Set([...ids].map((id) => paths.sprite(id).run));
    for (const name of await readdir(paths.run).catch(() => [])) {
      const directory = join(paths.run, name);
      if (runs.has(directory)) continue;
      await (await factory.driver.adopt(directory))?.kill();
      await rm(directory, { recursive: true, force: true });
    }
  }

  async #removeUnknown(ids: ReadonlySet<string>): Promise<void> {
    const { paths } = this.#parts;
    for (const name of await readdir(paths.sprites)) {
      if (!ids.has(name)) await rm(join(paths.sprites, name), { recursive: true, force: true });
    }
  }
}

const endpointOf = ({ vm, pilotToken, bootId }: SpriteEntry): SpriteEndpoint | undefined =>
  vm === undefined ? undefined : { host: "127.0.0.1", port: vm.pilotPort, token: pilotToken, bootId };

/** @param bootId undefined: any memory will do, and none */
const hasMemoryOf = (entry: SpriteEntry, bootId: string | undefined): boolean =>
  bootId === undefined || (entry.bootId === bootId && entry.status !== "cold");

/** Whoever asked would wait for as long as the disk is full. */
const diskFull = ({ name }: Identity): HobError =>
  new HobError("no_space", `reach sprite ${name}: this machine's disk is full, and the sprite stands still until there is room`, {
    hint: "make room on the disk of the daemon's home: the sprite goes on by itself, and has lost nothing",
  });

/** Those who were in the middle of something when another host took the sprite over must hear of it, and not take it back. */
function refuseIfJustLost({ lostAt }: SpriteEntry, { name }: Identity): void {
  if (lostAt === undefined || performance.now() - lostAt > LOST_REFUSED_MS) return;
  throw new HobError("ownership_lost", `reach sprite ${name}: another host has just taken it over`, {
    hint: "use it there; a request to this host in a while takes it back",
  });
}
