import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BlockReader, type ChunkMap, listAll, type ObjectStore, OrgKeys, PageStore, readCheckpoint, readHead } from "@hob/storage";
import { decodePackFooter, PACK_FOOTER_BYTES } from "@hob/storage/format/pack.ts";
import { diffMaps } from "@hob/storage/map/traverse.ts";
import { openStore } from "@hob/storage/store/open-store.ts";
import { z } from "zod";

export const ORGANIZATION = "hob";
export const PAGE_BYTES = 4096;

const states = z.object({
  workloads: z.array(z.object({ name: z.string(), before: z.string().nullable(), after: z.string().nullable() })),
});

/** Names of the maps of a volume before and after each workload. */
export type WorkloadStates = z.infer<typeof states>["workloads"];

const fileOf = (directory: string): string => join(directory, "states.json");
export const storeOf = (directory: string): string => join(directory, "store");

export async function saveStates(directory: string, workloads: WorkloadStates): Promise<void> {
  await writeFile(fileOf(directory), `${JSON.stringify({ workloads }, null, 2)}\n`);
}

/** undefined when none were saved there */
export async function loadStates(directory: string): Promise<WorkloadStates | undefined> {
  const text = await readFile(fileOf(directory), "utf8").catch(() => undefined);
  return text === undefined ? undefined : states.parse(JSON.parse(text)).workloads;
}

export const openDirectory = (directory: string): Promise<ObjectStore> => openStore(`dir:${directory}`, {});

/** The map that a checkpoint names. */
export async function rootOfCheckpoint(store: ObjectStore, sprite: string, id: string): Promise<string | null> {
  const keys = new OrgKeys(ORGANIZATION).sprite(sprite);
  const found = await readHead(store, keys.head);
  if (found === undefined) throw new Error("the sprite is not in the store");
  return (await readCheckpoint(store, keys, found.head, id)).root;
}

/** A block that a workload has changed; undefined: zeros. */
export interface ChangedBlock {
  block: number;
  before: Buffer | undefined;
  after: Buffer | undefined;
}

/** Two states of a volume, as the store has them. */
export class VolumeChange {
  readonly #pages: PageStore;
  readonly #before: BlockReader;
  readonly #after: BlockReader;

  constructor(store: ObjectStore, before: string | null, after: string | null) {
    const org = ORGANIZATION;
    this.#pages = new PageStore({ store, org, cachedPages: 100_000 });
    this.#before = new BlockReader({ store, org, root: before, pages: this.#pages });
    this.#after = new BlockReader({ store, org, root: after, pages: this.#pages });
  }

  /** The blocks that differ, ascending. */
  async *blocks(): AsyncGenerator<ChangedBlock> {
    for await (const { block, before, after } of diffMaps(this.#pages, this.#before.map.root, this.#after.map.root)) {
      yield {
        block,
        before: before === null ? undefined : await this.#before.read(block),
        after: after === null ? undefined : await this.#after.read(block),
      };
    }
  }

  /** Blocks of the state before that are not zeros. */
  async storedBefore(): Promise<number[]> {
    const blocks: number[] = [];
    for await (const { block } of this.#before.map.walk()) blocks.push(block);
    return blocks;
  }

  /** Any block of the state after. */
  readAfter(block: number): Promise<Buffer> {
    return this.#after.read(block);
  }

  get mapAfter(): ChunkMap {
    return this.#after.map;
  }
}

const ZEROS = Buffer.alloc(64 * 1024);

/** The 4 KiB pages of a block that differ: what a file system changes at the least. */
export function changedPages({ before = ZEROS, after = ZEROS }: ChangedBlock): number[] {
  const changed: number[] = [];
  for (let at = 0; at < after.length; at += PAGE_BYTES) {
    if (after.compare(before, at, at + PAGE_BYTES, at, at + PAGE_BYTES) !== 0) changed.push(at / PAGE_BYTES);
  }
  return changed;
}

export interface StoreContent {
  objects: number;
  /** of packs and pages as they are stored */
  bytes: number;
  /** in packs: each is a block of the volume */
  chunks: number;
}

/** What an organization has in a store; the difference of two is what came in between, as nothing is removed by then. */
export async function contentOf(store: ObjectStore): Promise<StoreContent> {
  const keys = new OrgKeys(ORGANIZATION);
  const content: StoreContent = { objects: 0, bytes: 0, chunks: 0 };
  for await (const { key, sizeBytes } of listAll(store, keys.prefix)) {
    content.objects++;
    content.bytes += sizeBytes;
    if (!key.startsWith(keys.packs)) continue;
    const range = { offset: sizeBytes - PACK_FOOTER_BYTES, length: PACK_FOOTER_BYTES };
    const footer = await store.get(key, { range });
    if (footer !== undefined) content.chunks += decodePackFooter(key, footer.data, sizeBytes).chunks;
  }
  return content;
}

export const grown = (before: StoreContent, after: StoreContent): StoreContent => ({
  objects: after.objects - before.objects,
  bytes: after.bytes - before.bytes,
  chunks: after.chunks - before.chunks,
});
