import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError, type Identity, type PilotActivity, type SpriteStatus, type StorageLag } from "@hob/protocol";
import type { RuntimeContext } from "../../src/index.ts";
import type {
  MachineSpec,
  Reader,
  Rest,
  SleepOutcome,
  SleepTerms,
  SpriteEndpoint,
  SpriteRuntime,
} from "../../src/runtime/sprite-runtime.ts";

export const NOTHING_KNOWN: Rest = { hasCopy: false, epoch: undefined, storedAs: undefined, said: undefined, behind: undefined };

export interface TestRuntimeOptions {
  /** where every sprite's pilot is said to listen */
  pilotPort: () => number;
  createMs?: number;
  /** called while a sprite's pilot decides about its sleep */
  onPrepareSleep?: (name: string) => void | Promise<void>;
  failCreate?: (name: string) => boolean;
  /** called with what the runtime is told to do, in order */
  onCall?: (call: string) => void;
}

/**
 * Keeps the promises of SpriteRuntime without VMs: a sprite is a directory and a status, and its pilot is a server
 * that the test has started.
 */
export class TestRuntime implements SpriteRuntime {
  readonly calls: string[] = [];
  readonly statuses = new Map<string, SpriteStatus>();
  /** what sprites' pilots say, by name; default: nobody holds them */
  readonly inside = new Map<string, PilotActivity>();
  /** what the object store lacks of sprites when they sleep, by name; default: nothing */
  readonly lags = new Map<string, StorageLag>();
  /** who each sprite was when its VM was made, by name */
  readonly made = new Map<string, Identity>();
  /** what is known of sprites that sleep, by id */
  readonly rests = new Map<string, Rest>();
  readonly tokens = new Map<string, string>();
  /** of all sprites: another one when their VMs have booted anew */
  bootId = "first";
  /** another host was found to have taken all sprites over */
  isLost = false;
  known: readonly { identity: Identity; machine: MachineSpec }[] = [];
  creating = 0;
  creatingMax = 0;
  failPolicies = false;
  failReader = false;
  readonly #context: RuntimeContext;
  readonly #options: TestRuntimeOptions;
  readonly #listeners: ((id: string, status: SpriteStatus) => void)[] = [];

  constructor(context: RuntimeContext, options: TestRuntimeOptions) {
    this.#context = context;
    this.#options = options;
  }

  async create(identity: Identity): Promise<void> {
    this.#note(`create ${identity.name}`);
    this.creating++;
    this.creatingMax = Math.max(this.creatingMax, this.creating);
    try {
      await mkdir(this.#directory(identity.id));
      await sleep(this.#options.createMs ?? 0);
      if (this.#options.failCreate?.(identity.name)) throw new HobError("vm_failed", `create VM of ${identity.name}: as the test asked`);
      this.made.set(identity.name, identity);
      this.tokens.set(identity.id, identity.pilotToken);
      this.setStatus(identity.id, "running");
    } finally {
      this.creating--;
    }
  }

  async endpoint(identity: Identity, _machine: MachineSpec, bootId?: string): Promise<SpriteEndpoint> {
    this.#note(`endpoint ${identity.name}`);
    if (this.isLost) throw new HobError("ownership_lost", `reach sprite ${identity.name}: as the test asked`);
    if (bootId !== undefined && bootId !== this.bootId) throw new HobError("vm_failed", `reach sprite ${identity.name}: its VM ended`);
    if (this.status(identity.id) !== "running") this.setStatus(identity.id, "running");
    return { host: "127.0.0.1", port: this.#options.pilotPort(), token: identity.pilotToken, bootId: this.bootId };
  }

  async applyPolicies(identity: Identity): Promise<void> {
    this.#note(`policies ${identity.name} ${identity.policies?.revision} ${this.status(identity.id)}`);
    if (this.failPolicies) throw new HobError("pilot_unreachable", "as the test asked");
  }

  status(id: string): SpriteStatus {
    return this.statuses.get(id) ?? "cold";
  }

  async sleep(identity: Identity, terms: SleepTerms): Promise<SleepOutcome> {
    if (this.status(identity.id) !== "running") return { kind: "asleep" };
    if (!terms.force && terms.inUse()) return { kind: "awake", activity: undefined };
    const inside = this.inside.get(identity.name) ?? { holders: [], idleMs: Number.MAX_SAFE_INTEGER };
    await this.#options.onPrepareSleep?.(identity.name);
    const isReady = terms.force || (inside.holders.length === 0 && inside.idleMs >= terms.idleMs);
    if (!isReady) return { kind: "awake", activity: inside };
    if (!terms.force && terms.inUse()) return { kind: "awake", activity: undefined };
    this.#note(`sleep ${identity.name}`);
    const lag = this.lags.get(identity.name);
    const behind = lag === undefined ? undefined : { since: Date.now() - lag.lagMs, checkpoints: lag.checkpoints, error: lag.error };
    this.rests.set(identity.id, { ...(await this.rest(identity.id)), behind });
    this.setStatus(identity.id, "warm");
    return { kind: "asleep" };
  }

  async activity(identity: Identity): Promise<PilotActivity | undefined> {
    if (this.status(identity.id) !== "running") return undefined;
    return this.inside.get(identity.name) ?? { holders: [], idleMs: Number.MAX_SAFE_INTEGER };
  }

  async rest(id: string): Promise<Rest> {
    return this.rests.get(id) ?? { ...NOTHING_KNOWN, hasCopy: true };
  }

  /** Its pilot is the one of all sprites, with a token of its own. */
  async startReader(identity: Identity): Promise<Reader> {
    this.#note(`reader ${identity.name}`);
    if (this.failReader) throw new HobError("vm_failed", "as the test asked");
    const endpoint = { host: "127.0.0.1", port: this.#options.pilotPort(), token: "reader" };
    const { promise: exited, resolve } = Promise.withResolvers<void>();
    return {
      endpoint,
      exited,
      close: async () => {
        this.#note(`close reader ${identity.name}`);
        resolve();
      },
    };
  }

  async chill(id: string): Promise<boolean> {
    if (this.status(id) !== "warm") return false;
    this.#note(`chill ${id}`);
    this.setStatus(id, "cold");
    return true;
  }

  async restart(identity: Identity): Promise<void> {
    this.#note(`restart ${identity.name}`);
    this.setStatus(identity.id, "cold");
    this.setStatus(identity.id, "running");
  }

  async upgrade(identity: Identity): Promise<boolean> {
    this.#note(`upgrade ${identity.name}`);
    return false;
  }

  async destroy(id: string): Promise<void> {
    this.#note(`destroy ${id}`);
    await rm(this.#directory(id), { recursive: true, force: true });
    if (this.statuses.has(id)) this.setStatus(id, "cold");
    this.statuses.delete(id);
  }

  async recover(known: readonly { identity: Identity; machine: MachineSpec }[], { keepsUnknown = false } = {}): Promise<void> {
    this.#note(`recover ${known.map(({ identity }) => identity.name).join(",")}${keepsUnknown ? ", keeping others" : ""}`);
    this.known = known;
  }

  async stopAll(): Promise<void> {
    this.#note("stopAll");
    for (const id of this.statuses.keys()) this.setStatus(id, "cold");
  }

  onStatusChange(listener: (id: string, status: SpriteStatus) => void): void {
    this.#listeners.push(listener);
  }

  setStatus(id: string, status: SpriteStatus): void {
    this.statuses.set(id, status);
    for (const listener of this.#listeners) listener(id, status);
  }

  #directory(id: string): string {
    return join(this.#context.spritesDirectory, id);
  }

  #note(call: string): void {
    this.calls.push(call);
    this.#options.onCall?.(call);
  }
}
