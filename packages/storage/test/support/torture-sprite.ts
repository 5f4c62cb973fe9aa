import type { MapRoot } from "../../src/map/chunk-ref.ts";
import { acquire } from "../../src/ownership/acquire.ts";
import type { Ownership } from "../../src/ownership/ownership.ts";
import { BlockReader } from "../../src/read/block-reader.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { Uploader } from "../../src/upload/uploader.ts";
import { blockOf, type Model } from "./blocks.ts";

/** What must read back: content by root. A root's content never changes, so it is remembered for good. */
export type Contents = Map<MapRoot, Model>;

/** What the machine of a sprite reads from where it has written nothing, as its ledger says. */
export class TortureMachine {
  /** of the volume in use; null: zeros */
  live: MapRoot = null;
  /** of checkpoints, by id */
  readonly checkpoints = new Map<string, MapRoot>();

  /** One that begins with nothing but what the store has. */
  static async over(owned: Ownership): Promise<TortureMachine> {
    const machine = new TortureMachine();
    machine.live = owned.head.root;
    for (const { id } of owned.head.checkpoints) machine.checkpoints.set(id, (await owned.readCheckpoint(id)).root);
    return machine;
  }

  bases(): string[] {
    return [...new Set([this.live, ...this.checkpoints.values()])].filter((root) => root !== null);
  }
}

/** What an operation was to change. If its end is not known, it did so or not; everything else must be as it was. */
export interface Intent {
  root?: MapRoot | undefined;
  /** a checkpoint */
  added?: { id: string; root: MapRoot };
  /** id of a checkpoint */
  deleted?: string;
}

/** What a head in the store says. */
export interface Found {
  root: MapRoot;
  checkpoints: Map<string, MapRoot>;
}

/** One sprite of a torture, with what its owner was told to be durable. */
export class TortureSprite {
  readonly id: string;
  owned: Ownership;
  machine = new TortureMachine();
  uploader: Uploader;
  root: MapRoot = null;
  /** acknowledged, by id */
  checkpoints = new Map<string, MapRoot>();
  nextCheckpoint = 1;

  constructor(store: ObjectStore, org: string, owned: Ownership) {
    this.id = owned.sprite;
    this.owned = owned;
    this.uploader = newUploader(store, org);
  }

  /** Takes the sprite, on the machine that it has or on one that is new and has to read everything from the store. */
  async start(store: ObjectStore, org: string, owner: string, { anew }: { anew: boolean }): Promise<void> {
    const bases = () => this.machine.bases();
    this.owned = await acquire({ store, org, sprite: this.id, owner, takeOver: true, bases });
    if (anew) this.machine = await TortureMachine.over(this.owned);
  }

  async find(): Promise<Found> {
    const { root, checkpoints } = await this.owned.refresh();
    const found = new Map<string, MapRoot>();
    for (const { id } of checkpoints) found.set(id, (await this.owned.readCheckpoint(id)).root);
    return { root, checkpoints: found };
  }

  /**
   * Takes over what the head says after an operation of unknown end.
   *
   * @throws Error when it is neither what there was nor what the operation was to make of it
   */
  async settle(intent: Intent): Promise<void> {
    const { root, checkpoints } = await this.find();
    const isIntended = "root" in intent && root === intent.root;
    if (root !== this.root && !isIntended) throw new Error(`LOSS: ${this.id} has a state that it neither had nor was given`);
    const expected = new Map(this.checkpoints);
    const { added, deleted } = intent;
    if (added !== undefined && checkpoints.has(added.id)) expected.set(added.id, added.root);
    if (deleted !== undefined && !checkpoints.has(deleted)) expected.delete(deleted);
    if (shown(checkpoints) !== shown(expected))
      throw new Error(`LOSS: ${this.id} has the checkpoints ${shown(checkpoints)} instead of ${shown(expected)}`);
    this.root = root;
    this.checkpoints = checkpoints;
  }
}

const shown = (checkpoints: ReadonlyMap<string, MapRoot>): string => JSON.stringify([...checkpoints]);

export const newUploader = (store: ObjectStore, org: string): Uploader => new Uploader({ store, org, packTargetBytes: 400_000 });

export const create = (store: ObjectStore, org: string, sprite: string, owner: string): Promise<Ownership> =>
  acquire({ store, org, sprite, owner, initial: { volumeBytes: 2 ** 40 }, create: true });

/** Places close together and far apart, so that pages are shared and not. */
export const blockAt = (number: number): number => (number % 3 === 0 ? number : number % 3 === 1 ? 70_000 + number : 16_000_000 + number);

export const PLACES = 60;

/**
 * Reads every block that a state may have, and compares.
 *
 * @throws Error naming the first block that is not as it was acknowledged
 */
export async function verifyState(store: ObjectStore, org: string, what: string, root: MapRoot, model: Model): Promise<void> {
  const reader = new BlockReader({ store, org, root, cacheBytes: 0 });
  const expected = await reader.map.storedBlocks();
  if (expected !== model.size) throw new Error(`LOSS: ${what} has ${expected} blocks instead of ${model.size}`);
  for (let number = 0; number < PLACES; number++) {
    const block = blockAt(number);
    const data = await reader.read(block);
    if (!data.equals(blockOf(model.get(block) ?? 0))) throw new Error(`LOSS: block ${block} of ${what} is not what was acknowledged`);
  }
}
