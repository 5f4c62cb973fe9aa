import { HobError, type StorageAssignment } from "@hob/protocol";
import { acquire, type HeadDocument, type ObjectStore, OrgKeys, ReadOnlyStore, readHead, SpriteStore } from "@hob/storage";
import type { Logger } from "pino";
import { z } from "zod";
import type { PilotEndpoint } from "../runtime/sprite-runtime.ts";
import { OwnershipFile, type OwnershipRecord } from "./ownership-file.ts";
import { RelayDialer } from "./relay-dialer.ts";
import { createRelayServer } from "./relay-server.ts";
import { UploadShare } from "./upload-share.ts";

export interface SpriteStorageParts {
  store: ObjectStore;
  organization: string;
  /** names this home in the store */
  owner: string;
  log: Logger;
}

/** A sprite's place in the store, as this host holds it while the sprite's VM runs. */
export interface Claim {
  readonly assignment: StorageAssignment;
  /** Whether the store still says that this host has the sprite. @throws as `claim` of a volume on this machine */
  verify(): Promise<void>;
  /** The pilot has its volume: from now on the copy on this machine is the sprite's. */
  confirm(): Promise<void>;
}

/** What is asked when a VM is about to start. */
export interface ClaimRequest {
  spriteId: string;
  /** file beside the volume that says whose copy it is */
  file: string;
  /** whether there is a volume on this machine */
  hasVolume: boolean;
  /** size of the volume of a sprite that the store does not have yet; left out, that is an error */
  initialVolumeBytes?: number;
}

/**
 * Who may write a sprite's storage, seen from one host. The copy of a volume on this machine is good as long as the store
 * says that this host owns the sprite under the epoch that the copy was written under. Whoever starts a sprite without a
 * good copy takes it over, and every other host finds that out before it can write again.
 */
export class SpriteStorage {
  readonly #parts: SpriteStorageParts;
  readonly #uploads = new UploadShare();

  constructor(parts: SpriteStorageParts) {
    this.#parts = parts;
  }

  get store(): ObjectStore {
    return this.#parts.store;
  }

  /** names this host in the store */
  get owner(): string {
    return this.#parts.owner;
  }

  /** What the store says of the sprite now; undefined when it has none of it. */
  async head(spriteId: string): Promise<HeadDocument | undefined> {
    const { store, organization } = this.#parts;
    return (await readHead(store, new OrgKeys(organization).sprite(spriteId).head))?.head;
  }

  /** Whether a copy that was written under this epoch is what the store says that this host has. */
  owns(head: HeadDocument | undefined, epoch: number | undefined): boolean {
    return head !== undefined && head.owner === this.owner && head.epoch === epoch;
  }

  /** Whether the store has this checkpoint of the sprite. */
  async hasCheckpoint(spriteId: string, checkpoint: string): Promise<boolean> {
    return (await this.head(spriteId))?.checkpoints.some(({ id }) => id === checkpoint) ?? false;
  }

  get organization(): string {
    return this.#parts.organization;
  }

  /**
   * Takes the sprite for this host, or finds that it has it.
   * @throws HobError `ownership_lost` when the copy on this machine is out of date: it must be removed, then this is asked anew;
   *   `store_failed` when the store has nothing of a sprite that this machine has, or something older; `not_found` when neither has it
   */
  async claim({ spriteId, file, hasVolume, initialVolumeBytes }: ClaimRequest): Promise<Claim> {
    const { store, organization, owner } = this.#parts;
    const records = new OwnershipFile(file);
    const record = hasVolume ? await records.read() : undefined;
    if (record !== undefined) {
      await this.#verify(spriteId, record);
      return this.#claim(spriteId, records, record);
    }
    // A volume without a record is one that was made a moment ago, or before there was a store: it is this host's own.
    const { head } = await acquire({
      ...{ store, org: organization, sprite: spriteId, owner, takeOver: true },
      ...(initialVolumeBytes === undefined ? {} : { initial: { volumeBytes: initialVolumeBytes } }),
    });
    const base = head.root === null || hasVolume ? undefined : { root: head.root, volumeBytes: head.volumeBytes };
    const acquired: OwnershipRecord = { epoch: head.epoch, ...(base === undefined ? {} : { base }) };
    await records.write(acquired);
    return this.#claim(spriteId, records, acquired);
  }

  /**
   * What this host had of a sprite when its VM was started, without a look at the store: to be verified before anything of the VM goes there.
   * @returns undefined when the volume on this machine was not the sprite's yet
   */
  async reclaim({ spriteId, file }: Pick<ClaimRequest, "spriteId" | "file">): Promise<Claim | undefined> {
    const records = new OwnershipFile(file);
    const record = await records.read();
    return record === undefined || record.base !== undefined ? undefined : this.#claim(spriteId, records, record);
  }

  /** Lets the pilot reach the store, until disposed. @param onLost called when it turns out that another host owns the sprite */
  connect(assignment: StorageAssignment, start: string, endpoint: () => PilotEndpoint, onLost: () => void): Disposable {
    const { store, log } = this.#parts;
    const { organization, spriteId, owner, epoch } = assignment;
    const confined = new SpriteStore(store, { org: organization, sprite: spriteId, owner, epoch });
    // A pilot whose write was refused reads the head to see who has written it: then this host knows as well.
    const onHead = (data: Buffer) => {
      const written = writerOf(data);
      if (written !== undefined && isLostTo(written, assignment)) onLost();
    };
    const takeShare = (bytes: number, signal: AbortSignal) => this.#uploads.take(spriteId, bytes, signal);
    const server = createRelayServer({ store: confined, log: log.child({ sprite: spriteId }), onHead, takeShare });
    return new RelayDialer(endpoint, start, server, log);
  }

  /** Lets a pilot that owns nothing read what is the sprite's, and the chunks that this is made of, until disposed. */
  show(spriteId: string, start: string, endpoint: () => PilotEndpoint): Disposable {
    const { store, log, organization, owner } = this.#parts;
    const confined = new ReadOnlyStore(new SpriteStore(store, { org: organization, sprite: spriteId, owner, epoch: 0 }));
    const takeShare = () => Promise.reject(new HobError("invalid_request", "relay: a reader writes nothing"));
    const parts = { store: confined, log: log.child({ sprite: spriteId, reader: start }), onHead: () => {}, takeShare };
    const server = createRelayServer(parts);
    return new RelayDialer(endpoint, start, server, log);
  }

  async #verify(spriteId: string, { epoch }: OwnershipRecord): Promise<void> {
    const { store, owner } = this.#parts;
    const present = await this.head(spriteId);
    if (present === undefined || present.epoch < epoch) throw wrongStore(spriteId, store.description, present);
    if (isLostTo(present, { owner, epoch })) {
      throw new HobError("ownership_lost", `start sprite ${spriteId}: another host has taken it over since it ran here`);
    }
  }

  #claim(spriteId: string, records: OwnershipFile, record: OwnershipRecord): Claim {
    const { organization, owner } = this.#parts;
    const { epoch, base } = record;
    return {
      assignment: { organization, spriteId, owner, epoch, ...(base === undefined ? {} : { base }) },
      verify: () => this.#verify(spriteId, record),
      confirm: async () => {
        if (base !== undefined) await records.write({ epoch });
      },
    };
  }
}

/** Of a head, as much as says who may write it. */
const writer = z.object({ owner: z.string(), epoch: z.number() });
type Writer = z.infer<typeof writer>;

/** Epochs only grow: a head with a smaller one was there before, and takes nothing from anybody. */
const isLostTo = (written: Writer, held: Writer): boolean =>
  written.epoch > held.epoch || (written.epoch === held.epoch && written.owner !== held.owner);

/**
 * A host that takes a sprite over leaves a head with a larger epoch. A store without one is another store, or an old copy, or one
 * whose disk is not mounted: then what this machine has may be all there is, and must not go.
 */
function wrongStore(spriteId: string, description: string, present: HeadDocument | undefined): HobError {
  const has = present === undefined ? "nothing of it" : "an older copy of it";
  return new HobError("store_failed", `start sprite ${spriteId}: ${description} has ${has}, and this machine has the sprite`, {
    hint: "see whether --store names the right object store and its disk is mounted. What this machine has is kept; `hob destroy` removes it",
  });
}

function writerOf(data: Buffer): Writer | undefined {
  try {
    return writer.parse(JSON.parse(data.toString("utf8")));
  } catch {
    return undefined;
  }
}
