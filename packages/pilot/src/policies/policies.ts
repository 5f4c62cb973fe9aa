import { readFile, rename, writeFile } from "node:fs/promises";
import { type Identity, NO_POLICIES, type SpritePolicies, spritePolicies } from "@hob/protocol";
import { z } from "zod";
import { type Confinement, confinementOf } from "../container/confinement.ts";
import type { NetworkPolicy } from "../network/network-policy.ts";

/** Policies, and the sprite that they are of. */
const ownedPolicies = z.object({ owner: z.string(), policies: spritePolicies });
type Owned = z.infer<typeof ownedPolicies>;

export interface PoliciesParts {
  network: Pick<NetworkPolicy, "apply">;
  /** takes what the container and its sessions are confined to from now on */
  confine: (confinement: Confinement) => Promise<void>;
  /** survives this process, but not this run of the VM */
  file: string;
}

/**
 * The policies of this sprite. The host owns them: it sends them with the sprite's identity and after every change, and
 * what is sent is in force when the call returns. A copy outlives a pilot that dies, because the host does not hear of
 * that and would not send them again.
 */
export class Policies {
  readonly #parts: PoliciesParts;
  #current: Owned = { owner: "", policies: NO_POLICIES };
  /** wholly in force, without its revision; undefined: nothing yet, or a change failed */
  #inForce: string | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: PoliciesParts) {
    this.#parts = parts;
  }

  /**
   * Before the container starts.
   * @param booted the sprite of the boot configuration
   * @param restarted whether an earlier pilot served this VM
   */
  async begin(booted: Identity | undefined, restarted: boolean): Promise<void> {
    const kept = restarted ? await this.#read() : undefined;
    const atBoot = { owner: booted?.id ?? "", policies: booted?.policies ?? NO_POLICIES };
    const newest = kept !== undefined && (booted?.policies === undefined || isNewer(kept, atBoot)) ? kept : atBoot;
    await this.#inOrder(() => this.#apply(newest, !restarted));
  }

  /**
   * Puts policies in force. Older ones of the same sprite are left aside, as are none at all (from an older host).
   * @param owner id of the sprite: a clone begins with those that the memory it was made from had
   */
  apply(owner: string, policies: SpritePolicies | undefined): Promise<void> {
    return this.#inOrder(async () => {
      if (policies === undefined || (owner === this.#current.owner && isNewer(this.#current, { owner, policies }))) return;
      await this.#apply({ owner, policies }, false);
    });
  }

  /** The network last: it is the one that takes time, and the only one that can fail half-way. */
  async #apply(owned: Owned, untouched: boolean): Promise<void> {
    const { network, confine } = this.#parts;
    const { privileges, resources, network: networkPolicy } = owned.policies;
    const text = JSON.stringify([networkPolicy, privileges, resources]);
    if (owned.policies.revision > 0) await this.#write(owned);
    this.#current = owned;
    if (text === this.#inForce) return;
    this.#inForce = undefined;
    await confine(confinementOf(privileges, resources));
    await network.apply(networkPolicy, untouched);
    this.#inForce = text;
  }

  async #write(owned: Owned): Promise<void> {
    await writeFile(`${this.#parts.file}.new`, JSON.stringify(owned), { mode: 0o600 });
    await rename(`${this.#parts.file}.new`, this.#parts.file);
  }

  async #read(): Promise<Owned | undefined> {
    const text = await readFile(this.#parts.file, "utf8").catch(() => undefined);
    return text === undefined ? undefined : ownedPolicies.parse(JSON.parse(text));
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => {});
    return next;
  }
}

const isNewer = (a: Owned, b: Owned): boolean => a.policies.revision > b.policies.revision;
