import { randomUUID } from "node:crypto";
import { access, rm } from "node:fs/promises";
import { diskLayout, HobError, type StorageAssignment } from "@hob/protocol";
import type { Claim, SpriteStorage } from "../object-store/sprite-storage.ts";
import type { SpriteFiles } from "./paths.ts";
import type { PilotClient, ResumedStorage } from "./pilot-client.ts";
import type { MachineSpec, PilotEndpoint } from "./sprite-runtime.ts";

/** A sprite's place in the object store, for one start of its VM: claimed before, connected while it runs. */
export class StorageLink implements Disposable {
  /** names this start of the VM */
  readonly start = randomUUID();
  readonly #storage: SpriteStorage;
  readonly #claim: Claim;
  #connection: Disposable | undefined;
  #isOver = false;

  constructor(storage: SpriteStorage, claim: Claim) {
    this.#storage = storage;
    this.#claim = claim;
  }

  /** Asks the store whether this host still has the sprite. @throws as `StorageLinks.forLocal` */
  verify(): Promise<void> {
    return this.#claim.verify();
  }

  get assignment(): StorageAssignment {
    return this.#claim.assignment;
  }

  /** What it is once the pilot has its volume: there is nothing to fetch any more. */
  get settled(): StorageAssignment {
    const { base: _, ...settled } = this.assignment;
    return settled;
  }

  /** for `resumed` */
  get told(): ResumedStorage {
    return { storage: this.assignment, start: this.start };
  }

  /** Opens the way to the store, once. @param onLost another host owns the sprite */
  connect(endpoint: () => PilotEndpoint, onLost: () => void): void {
    if (!this.#isOver) this.#connection ??= this.#storage.connect(this.assignment, this.start, endpoint, onLost);
  }

  /** Has the pilot fetch the sprite from the store where the volume on this machine is still the template's. */
  async settle(pilot: PilotClient): Promise<void> {
    if (this.assignment.base !== undefined) await pilot.attach();
    await this.#claim.confirm();
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#connection?.[Symbol.dispose]();
  }
}

/** How VMs get their place in the store. */
export class StorageLinks {
  readonly #storage: SpriteStorage;

  constructor(storage: SpriteStorage) {
    this.#storage = storage;
  }

  /** For a sprite that is being made, with its own volume or over what the store has of it already. */
  async forNew(files: SpriteFiles, spriteId: string, machine: MachineSpec): Promise<StorageLink> {
    return this.#link(files, spriteId, { hasVolume: false, initial: volumeBytes(machine) });
  }

  /** For a sprite whose volume is on this machine. @throws HobError `ownership_lost` when the store has a newer one, `store_failed` when it has none */
  async forLocal(files: SpriteFiles, spriteId: string, machine: MachineSpec): Promise<StorageLink> {
    return this.#link(files, spriteId, { hasVolume: true, initial: volumeBytes(machine) });
  }

  /**
   * For a sprite whose VM runs already. Where the store does not say whose it is, as when it is away, the VM has what it had: `isVerified` is
   * false then, and the link is to be verified before it is connected.
   * @throws HobError `ownership_lost`; of a VM whose volume is not the sprite's yet as `forLocal`
   */
  async forRunning(files: SpriteFiles, spriteId: string, machine: MachineSpec): Promise<{ link: StorageLink; isVerified: boolean }> {
    try {
      return { link: await this.forLocal(files, spriteId, machine), isVerified: true };
    } catch (error) {
      const claim = isOwnershipLost(error) ? undefined : await this.#storage.reclaim({ spriteId, file: files.ownership });
      if (claim === undefined) throw error;
      return { link: new StorageLink(this.#storage, claim), isVerified: false };
    }
  }

  /** For a sprite that only the store has. @throws HobError `not_found` when it has not */
  async forRemote(files: SpriteFiles, spriteId: string): Promise<StorageLink> {
    return this.#link(files, spriteId, { hasVolume: false, initial: undefined });
  }

  /** Lets a VM that is no sprite's own read what a sprite has in the store, until disposed. It claims nothing. */
  show(spriteId: string, start: string, endpoint: () => PilotEndpoint): Disposable {
    return this.#storage.show(spriteId, start, endpoint);
  }

  async #link(files: SpriteFiles, spriteId: string, request: { hasVolume: boolean; initial: number | undefined }): Promise<StorageLink> {
    const { hasVolume, initial } = request;
    const claim = await this.#storage.claim({
      spriteId,
      file: files.ownership,
      hasVolume,
      ...(initial === undefined ? {} : { initialVolumeBytes: initial }),
    });
    return new StorageLink(this.#storage, claim);
  }
}

export const hasVolume = ({ volume }: SpriteFiles): Promise<boolean> =>
  access(volume).then(
    () => true,
    () => false,
  );

/** Removes what this machine has of a sprite: the store's copy is newer. */
export async function removeLocalCopy(files: SpriteFiles): Promise<void> {
  const { volume, ram, state, stateInfo, rest, ownership } = files;
  // The record of ownership last: without it the volume would be taken for the sprite's own.
  for (const path of [rest, volume, ram, state, stateInfo, ownership]) await rm(path, { force: true });
}

export const isOwnershipLost = (error: unknown): boolean => error instanceof HobError && error.code === "ownership_lost";

const volumeBytes = ({ storageGb }: MachineSpec): number => diskLayout(storageGb).volumeBytes;
