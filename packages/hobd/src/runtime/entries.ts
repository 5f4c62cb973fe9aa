import { randomUUID } from "node:crypto";
import { HobError, type Identity, type SpritePolicies, type SpriteStatus } from "@hob/protocol";
import type { Vm } from "../vmm/driver.ts";

/** A sprite as this process knows it. Work on one sprite happens in order. */
export interface SpriteEntry {
  readonly id: string;
  vm: Vm | undefined;
  /** when another host was found to have taken the sprite over, by performance.now() */
  lostAt?: number;
  /** a VM whose pilot has not answered yet */
  starting?: Vm | undefined;
  /** names the boot that its memory comes from, running or saved; see SpriteEndpoint */
  bootId: string;
  /** what the pilot of `vm` accepts */
  pilotToken: string;
  status: SpriteStatus;
  /** its VM is about to be saved or shut down: whoever wants its pilot waits in the queue */
  closing: boolean;
  /** nothing may be started for it any more, whoever waits in the queue */
  isDestroyed?: boolean;
  queue: Promise<unknown>;
  /** the newest that this daemon has been told of */
  policies?: SpritePolicies;
}

/** An identity may have been read before a change of the policies that has been carried out since. */
export const withNewestPolicies = ({ policies }: SpriteEntry, identity: Identity): Identity =>
  policies !== undefined && policies.revision > (identity.policies?.revision ?? 0) ? { ...identity, policies } : identity;

/** @throws HobError `not_found` */
export function refuseIfDestroyed({ isDestroyed }: SpriteEntry, what: string): void {
  if (isDestroyed) throw new HobError("not_found", `${what}: it was destroyed`);
}

/** All sprites that this process has met, their status, and the order of what is done to each. */
export class SpriteEntries {
  readonly #entries = new Map<string, SpriteEntry>();
  readonly #listeners: ((id: string, status: SpriteStatus) => void)[] = [];
  #stopping = false;

  get(id: string): SpriteEntry | undefined {
    return this.#entries.get(id);
  }

  get isStopping(): boolean {
    return this.#stopping;
  }

  starting(): Vm[] {
    return [...this.#entries.values()].flatMap(({ starting }) => starting ?? []);
  }

  running(): SpriteEntry[] {
    return [...this.#entries.values()].filter(({ vm }) => vm !== undefined);
  }

  remove(id: string): void {
    this.#entries.delete(id);
  }

  /** From now on only work that says so is begun. */
  stop(): void {
    this.#stopping = true;
  }

  onStatusChange(listener: (id: string, status: SpriteStatus) => void): void {
    this.#listeners.push(listener);
  }

  setStatus(entry: SpriteEntry, status: SpriteStatus): void {
    if (entry.status === status) return;
    entry.status = status;
    for (const listener of this.#listeners) listener(entry.id, status);
  }

  /** Does the work when all that was asked for this sprite before is done. @throws HobError `shutting_down` */
  inOrder<T>(id: string, work: (entry: SpriteEntry) => Promise<T>, whileStopping = false): Promise<T> {
    if (this.#stopping && !whileStopping) return Promise.reject(new HobError("shutting_down", "the daemon is stopping"));
    const entry = this.#entries.get(id) ?? {
      id,
      vm: undefined,
      bootId: randomUUID(),
      pilotToken: "",
      status: "cold",
      closing: false,
      queue: Promise.resolve(),
    };
    this.#entries.set(id, entry);
    const run = () => work(entry);
    const next = entry.queue.then(run, run);
    entry.queue = next.catch(() => {});
    return next;
  }

  /** As `inOrder`, for work that may take the VM away: whoever wants its pilot meanwhile waits for the end of it. */
  closing<T>(id: string, work: (entry: SpriteEntry) => Promise<T>): Promise<T> {
    return this.inOrder(id, async (entry) => {
      entry.closing = true;
      try {
        return await work(entry);
      } finally {
        entry.closing = false;
      }
    });
  }
}
