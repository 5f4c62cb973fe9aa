import { BLOCK_BYTES } from "../../src/format/limits.ts";
import type { CheckpointFacts, LocalState, RepairSource } from "../../src/maintenance/repair.ts";
import type { MapRoot } from "../../src/map/chunk-ref.ts";
import { acquire } from "../../src/ownership/acquire.ts";
import type { Ownership } from "../../src/ownership/ownership.ts";
import { BlockReader } from "../../src/read/block-reader.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { Uploader } from "../../src/upload/uploader.ts";
import { applyTo, blockOf, changesOf, type Model } from "./blocks.ts";

type Changes = readonly (readonly [block: number, seed: number])[];

/** What a thin device has: blocks that were written to it, and the map behind it. */
interface Thin {
  written: Map<number, number>;
  origin: MapRoot;
}

/** A sprite's machine, as far as its storage goes: thin devices instead of a pool, and uploads of what changes. */
export class Machine implements RepairSource {
  readonly store: ObjectStore;
  readonly org: string;
  readonly owned: Ownership;
  /** what every state must read as; null: the newest */
  readonly expected = new Map<string | null, Model>([[null, new Map()]]);
  /** pages that are in memory, by name */
  readonly cached = new Map<string, Buffer>();
  /** thin devices of checkpoints: without its own the machine does not know one */
  readonly checkpoints = new Map<string, Thin & { facts: CheckpointFacts }>();
  uploaded: Thin & { root: MapRoot };
  readonly #live: Thin;

  private constructor(store: ObjectStore, org: string, owned: Ownership) {
    this.store = store;
    this.org = org;
    this.owned = owned;
    this.#live = { written: new Map(), origin: owned.head.root };
    this.uploaded = { ...copyOf(this.#live), root: owned.head.root };
  }

  static async create(store: ObjectStore, org: string, sprite: string): Promise<Machine> {
    const initial = { volumeBytes: 80_000 * BLOCK_BYTES };
    return new Machine(store, org, await acquire({ store, org, sprite, owner: "host", initial }));
  }

  /** Another machine that has taken the sprite from the store: all that it has is what is written there from now on. */
  async moved(): Promise<Machine> {
    const { store, org } = this;
    const machine = new Machine(store, org, await acquire({ store, org, sprite: this.owned.sprite, owner: "other", takeOver: true }));
    for (const { id } of machine.owned.head.checkpoints) {
      const { comment, createdAt, parent, automatic, root } = await machine.owned.readCheckpoint(id);
      machine.checkpoints.set(id, { written: new Map(), origin: root, facts: { comment, createdAt, parent, automatic } });
    }
    for (const [id, model] of this.expected) machine.expected.set(id, model);
    return machine;
  }

  async write(changes: Changes): Promise<void> {
    for (const [block, seed] of changes) this.#live.written.set(block, seed);
    this.expected.set(null, applyTo(this.expected.get(null) ?? new Map(), changes));
    const uploader = new Uploader({ store: this.store, org: this.org, packTargetBytes: 150_000 });
    const { root, storedBlocks, startedAt } = await uploader.upload(this.owned.head.root, changesOf(changes));
    await this.owned.publish({ root, storedBlocks }, { startedAt });
    this.uploaded = { ...copyOf(this.#live), root };
  }

  async checkpoint(id: string): Promise<void> {
    const { root, storedBlocks, parent } = this.owned.head;
    const facts = { comment: `comment of ${id}`, createdAt: "2026-01-02T03:04:05Z", parent, automatic: false };
    await this.owned.addCheckpoint({ id, ...facts, root, storedBlocks }, { parent: id });
    this.checkpoints.set(id, { ...copyOf(this.#live), facts });
    this.expected.set(id, this.expected.get(null) ?? new Map());
  }

  async chunk(_hash: string, block: number, checkpoint: string | null): Promise<Buffer | undefined> {
    const thin = checkpoint === null ? this.uploaded : this.checkpoints.get(checkpoint);
    const seed = thin?.written.get(block);
    if (thin === undefined || seed !== undefined) return seed === undefined ? undefined : blockOf(seed);
    return await new BlockReader({ store: this.store, org: this.org, root: thin.origin }).read(block).catch(() => undefined);
  }

  async page(name: string): Promise<Buffer | undefined> {
    return this.cached.get(name);
  }

  async state(checkpoint: string | null, root: MapRoot): Promise<LocalState | undefined> {
    if (checkpoint === null && root !== this.uploaded.root) return undefined;
    const known = checkpoint === null ? undefined : this.checkpoints.get(checkpoint);
    const thin = checkpoint === null ? this.uploaded : known;
    if (thin === undefined) return undefined;
    return {
      origin: thin.origin,
      written: [...thin.written.keys()].map((first) => ({ first, count: 1 })),
      read: async (block) => blockOf(thin.written.get(block) ?? 0),
      ...(known === undefined ? {} : { document: known.facts }),
    };
  }

  /** As after a repair, when the states have other maps of the same content. */
  noteRoots(roots: ReadonlyMap<string, string>): void {
    const moved = (root: MapRoot): MapRoot => (root === null ? null : (roots.get(root) ?? root));
    for (const thin of [this.uploaded, this.#live, ...this.checkpoints.values()]) thin.origin = moved(thin.origin);
    this.uploaded.root = moved(this.uploaded.root);
  }
}

const copyOf = ({ written, origin }: Thin): Thin => ({ written: new Map(written), origin });
