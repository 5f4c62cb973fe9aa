import { join } from "node:path";
import { HobError, type RepairRequest, type StorageAssignment, type StorageStatus, type StoredHistory } from "@hob/protocol";
import { type BlockRange, diffMaps, type ObjectStore, toRanges } from "@hob/storage";
import type { Logger } from "pino";
import type { Endpoint } from "../api/endpoint.ts";
import type { BlockSource } from "../block-server/block-server.ts";
import { Origins } from "../block-server/origins.ts";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import { PATHS } from "../config.ts";
import type { HelperClient } from "../helper/index.ts";
import { RelayConnections } from "../object-store/relay-connections.ts";
import { RelayStore } from "../object-store/relay-store.ts";
import type { ThinVolume } from "../volume/thin-volume.ts";
import type { TreeSwitch } from "../volume/tree-switch.ts";
import { coldStart } from "./cold-start.ts";
import { Durability } from "./durability.ts";
import { originOf, rootOf } from "./origin-name.ts";
import { storageRoutes } from "./routes.ts";
import { StateUploader } from "./state-uploader.ts";
import { StoreReads } from "./store-reads.ts";
import { repairStore } from "./store-repair.ts";
import { StoredStates } from "./stored-states.ts";
import { VolumeUpload } from "./volume-upload.ts";

/** An eighth of what there is for local state. Journals and logs need the rest, and find a quarter of it free at any rate. */
const CACHE = { directory: join(PATHS.state, "chunks"), maxBytes: 512 * 1024 ** 2, minFreeBytes: 1024 ** 3 };

export interface SpriteStorageParts {
  helper: HelperClient;
  log: Logger;
  /** known from the boot configuration; a clone of a template gets its own with `resumed` */
  assignment: StorageAssignment | undefined;
}

interface Assembled {
  volume: ThinVolume;
  treeSwitch: TreeSwitch;
  upload: VolumeUpload;
  durability: Durability;
}

/**
 * Everything between this sprite and the object store, put together: the way there, devices that read from it, uploads to
 * it, and the start of a sprite that only it has.
 */
export class SpriteStorage {
  readonly origins: Origins;
  /** called when something of the store is needed: the host connects once it knows that somebody listens */
  onNeeded: () => void = () => {};
  readonly #connections = new RelayConnections();
  readonly #store: ObjectStore = new RelayStore(this.#connections);
  readonly #parts: SpriteStorageParts;
  #assignment: StorageAssignment | undefined;
  #mayHaveReads: StoreReads | undefined;
  /** until the volume that is the sprite's is in use */
  #isStarting = true;
  #stored: StoredStates | undefined;
  /** origins that nothing reads from yet */
  #named: readonly string[] = [];
  #mayBeAssembled: Assembled | undefined;
  #uploader: StateUploader | undefined;
  #attaching: Promise<void> = Promise.resolve();

  constructor(parts: SpriteStorageParts) {
    this.#parts = parts;
    this.#assignment = parts.assignment;
    const { helper, log } = parts;
    this.origins = new Origins({ helper, log, directory: PATHS.runtime, sourceOf: (name, sizeBytes) => this.#sourceOf(name, sizeBytes) });
  }

  /** Tells what the store is for. Two steps, because the volume needs devices that read from the store. */
  use(volume: ThinVolume, treeSwitch: TreeSwitch, checkpoints: Pick<Checkpoints, "withRoom">): void {
    const { log } = this.#parts;
    const store = this.#store;
    // An upload begins with pages that the start has read already.
    const uploaderOf = (org: string) => {
      this.#uploader = new StateUploader({ store, org, pages: this.#reads().pages });
      return this.#uploader;
    };
    const withRoom = <T>(snapshot: () => Promise<T>) => checkpoints.withRoom(snapshot);
    const upload = new VolumeUpload(volume, uploaderOf, withRoom, () => [...this.origins.names, ...this.#named]);
    const durability = new Durability({ store, upload, log, numbers: () => volume.ledger.state });
    this.#mayBeAssembled = { volume, treeSwitch, upload, durability };
  }

  get durability(): Durability {
    return this.#assembled.durability;
  }

  /** In a reader: what there is to show. Undefined in the VM of a sprite. */
  get stored(): StoredStates | undefined {
    return this.#stored;
  }

  /** Blocks that differ between what two origins name, by their maps: none of them is read. */
  originDifferences(one: string | null, other: string | null): AsyncGenerator<BlockRange> {
    return toRanges(diffMaps(this.#reads().pages, rootOf(one), rootOf(other)));
  }

  /** Keeps uploads from going on until the function that it returns is called. */
  pauseUploads(): () => void {
    return this.#assembled.upload.pause();
  }

  /** Makes the snapshot of the last upload garbage, for its space. @returns false: there is none that can be */
  giveUpUploaded(): Promise<boolean> {
    return this.#assembled.upload.giveUp();
  }

  get endpoints(): Endpoint[] {
    return [this.#connections, { routes: storageRoutes(this.durability, () => this.status()) }];
  }

  /** How far the store is behind. */
  async status(): Promise<StorageStatus> {
    return { ...(await this.durability.status()), ...this.#fetched() };
  }

  /** Begins to upload; to be called when the volume is there. */
  start(): void {
    this.durability.assign(this.#assignment);
    this.#started();
  }

  /** After each start of the VM: what the host says of the sprite's place in the store, or of the sprite that a reader shows. */
  resumed(assignment: StorageAssignment | undefined, start: string | undefined, history?: StoredHistory): void {
    if (start !== undefined) this.#connections.keepOnly(start);
    if (history !== undefined) this.#stored ??= new StoredStates({ store: this.#store, volume: this.#assembled.volume, history });
    this.#assignment = assignment;
    // The host lets `gc` go without the usual grace while its sprites sleep.
    this.#uploader?.forget();
    this.durability.assign(assignment);
    // Before the host asks for it: what the start needs comes while the sprite gets its name and its policies.
    const base = assignment?.base;
    if (base === undefined || this.#assembled.volume.ledger.state.basis === originOf(base.root)) return;
    this.#isStarting = true;
    this.#reads().expectStart(base.root);
  }

  /** Puts the sprite that the store has in place of the template's. May be repeated; calls wait for each other. */
  attach(): Promise<void> {
    const { volume, treeSwitch } = this.#assembled;
    const work = async () => {
      if (this.#assignment === undefined) throw new HobError("conflict", "attach: there is no object store");
      const start = performance.now();
      await coldStart({ store: this.#store, volume, treeSwitch }, this.#assignment);
      this.#started();
      this.#parts.log.info(
        { ms: Math.round(performance.now() - start), ...this.#fetched() },
        "the sprite was fetched from the object store",
      );
    };
    const next = this.#attaching.then(work, work);
    this.#attaching = next.catch(() => {});
    return next;
  }

  /** Brings what the store has lost of the sprite's states back into it, as far as this machine has it. */
  async repair(request: RepairRequest): Promise<void> {
    const { volume, durability } = this.#assembled;
    const { cache, organization, pages: cached } = this.#reads();
    const name = (origins: readonly string[]) => {
      this.#named = origins;
    };
    const repaired = await repairStore({ store: this.#store, organization, volume, durability, pages: cached, cache, name }, request);
    const { pages, blocks, documents } = repaired;
    this.#parts.log.info({ pages, blocks, documents }, "what the object store had lost was brought back");
  }

  async stop(): Promise<void> {
    // Side by side: an upload may be reading what waits for the store.
    await Promise.all([this.#mayHaveReads?.[Symbol.asyncDispose](), this.durability[Symbol.asyncDispose]()]);
  }

  #started(): void {
    this.#isStarting = false;
    this.#mayHaveReads?.ready();
  }

  get #assembled(): Assembled {
    if (this.#mayBeAssembled === undefined) throw new HobError("internal", "use the object store: it is not put together yet");
    return this.#mayBeAssembled;
  }

  /** What came from the store so that it could be read here. */
  #fetched(): { fetched_bytes: number; fetched_requests: number } {
    return this.#mayHaveReads?.fetched ?? { fetched_bytes: 0, fetched_requests: 0 };
  }

  /** @param sizeBytes of a device that a pilot before this one has made: the volume may not be there yet */
  async #sourceOf(name: string, sizeBytes: number | undefined): Promise<BlockSource> {
    const { volume } = this.#assembled;
    const reads = this.#reads();
    this.onNeeded();
    if (sizeBytes !== undefined) return reads.source(rootOf(name), sizeBytes);
    if (name === volume.ledger.state.live.origin) reads.expectStart(rootOf(name));
    // The disk of this machine is laid out for the size that the sprite has everywhere.
    return reads.source(rootOf(name), volume.sizeBytes);
  }

  /** The organization and the sprite stay what they are, whatever else an assignment brings. */
  #reads(): StoreReads {
    const place = this.#stored?.history ?? this.#assignment;
    if (place === undefined) throw new HobError("volume_unusable", "open a volume over the object store: there is none");
    const { organization, spriteId } = place;
    if (this.#mayHaveReads === undefined) {
      this.#mayHaveReads = new StoreReads({ store: this.#store, organization, spriteId, log: this.#parts.log, cache: CACHE });
      if (!this.#isStarting) this.#mayHaveReads.ready();
    }
    return this.#mayHaveReads;
  }
}
