import { HobError } from "@hob/protocol";
import type { CheckpointDocument } from "../format/documents.ts";
import { sha256 } from "../format/hash.ts";
import { OrgKeys } from "../format/keys.ts";
import { ChunkMap } from "../map/chunk-map.ts";
import type { BlockRange, MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import { walkPages } from "../map/traverse.ts";
import type { Ownership } from "../ownership/ownership.ts";
import type { HeadChange } from "../ownership/types.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { RecentChunks } from "../upload/recent-chunks.ts";
import type { BlockChange } from "../upload/types.ts";
import { Uploader } from "../upload/uploader.ts";
import { type Damage, type FsckReport, fsck } from "./fsck.ts";

/** Where lost content may still be: a local volume, a cache. What it gives is checked. */
export interface RepairSource {
  /** the block that had this hash, in this state (null: the newest), if it is there */
  chunk(hash: string, block: number, checkpoint: string | null): Promise<Buffer | undefined>;
  /** the page of this name, if it is there */
  page?(name: string): Promise<Buffer | undefined>;
}

export interface RepairOptions {
  store: ObjectStore;
  org: string;
  /** of the sprite that is repaired */
  ownership: Ownership;
  source: RepairSource;
  signal?: AbortSignal;
}

export interface RepairReport {
  repairedPages: number;
  repairedBlocks: number;
  /** what `fsck` finds afterwards */
  after: FsckReport;
}

/**
 * Brings back what `fsck` finds damaged in one sprite, as far as the source has it: lost pages by their names, lost chunks as
 * new ones that the states are made to point to. Roots of damaged checkpoints change by it, in one write of the head.
 */
export async function repair(options: RepairOptions): Promise<RepairReport> {
  const { store, org, ownership, signal } = options;
  const check = (): Promise<FsckReport> => fsck({ store, org, sprites: [ownership.sprite], ...(signal === undefined ? {} : { signal }) });
  let report = await check();
  const repairedPages = await repairPages(options);
  if (repairedPages > 0) report = await check();
  const { blocks } = await repairBlocks(options, report.damage);
  return { repairedPages, repairedBlocks: blocks, after: await check() };
}

export interface BlockRepair {
  blocks: number;
  /** the states' new roots by those before */
  roots: ReadonlyMap<string, string>;
}

/** As `repair`, for blocks that are known to be damaged: nothing is checked before or after, and lost pages stay lost. */
export async function repairBlocks(options: RepairOptions, found: readonly Pick<Damage, "checkpoint" | "blocks">[]): Promise<BlockRepair> {
  const { store, org, ownership, source, signal } = options;
  const repairer = new Repairer(store, org, source);
  const documents: CheckpointDocument[] = [];
  const roots = new Map<string, string>();
  let change: HeadChange = {};
  const startedAt = Date.now();
  for (const [checkpoint, all] of Map.groupBy(found, (one) => one.checkpoint)) {
    signal?.throwIfAborted();
    const document = checkpoint === null ? undefined : await ownership.readCheckpoint(checkpoint).catch(onlyDamage);
    const before = checkpoint === null ? ownership.head.root : (document?.root ?? null);
    const root = before === null ? null : await repairer.repair(before, checkpoint, all);
    if (before === null || root === null || root === before) continue;
    roots.set(before, root);
    if (document === undefined) change = { root };
    else documents.push({ ...document, root });
  }
  if (roots.size > 0) await ownership.replaceCheckpoints(documents, change, { startedAt });
  return { blocks: repairer.blocks, roots };
}

/** A page brought back may show another one below it that is lost too. */
async function repairPages({ store, org, ownership, source, signal }: RepairOptions): Promise<number> {
  if (source.page === undefined) return 0;
  const keys = new OrgKeys(org);
  const roots: MapRoot[] = [ownership.head.root];
  for (const { id } of ownership.head.checkpoints) roots.push((await ownership.readCheckpoint(id).catch(onlyDamage))?.root ?? null);
  let repaired = 0;
  const seen = new Set<string>();
  for (let again = true; again; ) {
    signal?.throwIfAborted();
    const broken = new Set<string>();
    const visited = new Set<string>();
    for (const root of roots) {
      await walkPages(new PageStore({ store, org }), root, {
        enter: (name) => !visited.has(name) && visited.add(name).size > 0,
        broken: (error, name) => {
          onlyDamage(error);
          if (!seen.has(name)) broken.add(name);
        },
      });
    }
    again = false;
    for (const name of broken) {
      seen.add(name);
      const bytes = await source.page(name);
      if (bytes === undefined || sha256(bytes) !== name) continue;
      await store.put(keys.page(name), bytes);
      repaired++;
      again = true;
    }
  }
  return repaired;
}

class Repairer {
  blocks = 0;
  readonly #source: RepairSource;
  readonly #pages: PageStore;
  readonly #uploader: Uploader;

  constructor(store: ObjectStore, org: string, source: RepairSource) {
    this.#source = source;
    this.#pages = new PageStore({ store, org });
    // What was brought back for one state is found again for the next.
    this.#uploader = new Uploader({ store, org, pages: this.#pages, recent: new RecentChunks(65_536), trustBase: false });
  }

  /** The root with as many of the damaged blocks brought back as the source has. */
  async repair(root: MapRoot, checkpoint: string | null, damage: readonly Pick<Damage, "blocks">[]): Promise<MapRoot> {
    const map = new ChunkMap({ store: this.#pages.store, org: this.#pages.keys.org, root, pages: this.#pages });
    const found = this.#find(
      map,
      checkpoint,
      damage.flatMap(({ blocks }) => blocks),
    );
    return (await this.#uploader.upload(root, found)).root;
  }

  async *#find(map: ChunkMap, checkpoint: string | null, ranges: readonly BlockRange[]): AsyncGenerator<BlockChange> {
    for (const { first, count } of ranges) {
      // A page that is lost says of none of its blocks what they were.
      if ((await map.lookup(first).catch(onlyDamage)) === undefined) continue;
      for (let block = first; block < first + count; block++) {
        const ref = await map.lookup(block);
        if (ref === undefined) continue;
        const data = await this.#source.chunk(ref.hash, block, checkpoint);
        if (data === undefined || sha256(data) !== ref.hash) continue;
        this.blocks++;
        yield { block, data };
      }
    }
  }
}

function onlyDamage(error: unknown): undefined {
  if (error instanceof HobError && error.code === "data_damaged") return undefined;
  throw error;
}
