import type { MapRoot } from "../../src/map/chunk-ref.ts";
import { acquire } from "../../src/ownership/acquire.ts";
import type { Ownership } from "../../src/ownership/ownership.ts";
import { BlockReader } from "../../src/read/block-reader.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { Uploader } from "../../src/upload/uploader.ts";
import { blockOf, type Model } from "./blocks.ts";

/** What must read back: content by root. A root's content never changes, so it is remembered for good. */
export type Contents = Map<MapRoot, Model>;

/** One sprite of a torture, with what its owner was told to be durable. */
export class TortureSprite {
  readonly id: string;
  owned: Ownership;
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
}

export const newUploader = (store: ObjectStore, org: string): Uploader => new Uploader({ store, org, packTargetBytes: 400_000 });

export const take = (store: ObjectStore, org: string, sprite: string, owner: string, create: boolean): Promise<Ownership> =>
  acquire({ store, org, sprite, owner, takeOver: true, ...(create ? { initial: { volumeBytes: 2 ** 40 }, create } : {}) });

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
