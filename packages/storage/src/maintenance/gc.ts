import { HobError } from "@hob/protocol";
import { isHash } from "../format/hash.ts";
import { OrgKeys } from "../format/keys.ts";
import { PROBE_MS_MAX, PROBES } from "../store/conditional-writes.ts";
import { listAll } from "../store/list-all.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { mapLimit } from "../util/concurrency.ts";
import { type DamageHolder, findDamageHolders } from "./damage-holders.ts";
import { Marker } from "./mark.ts";

/** Objects younger than this are kept: they may belong to an upload under way. Longer than an upload may take. */
export const GC_GRACE_MS = 24 * 60 * 60 * 1000;

const CONCURRENT_DELETES = 8;

/** Objects deleted at a time; a bound for what is held in memory of a list. */
const BATCH = 500;

export interface GcOptions {
  store: ObjectStore;
  org: string;
  /** shorter than GC_GRACE_MS only where nothing uploads. Default GC_GRACE_MS */
  graceMs?: number | undefined;
  /**
   * Asked when the store has told the time, before anything is looked at: whoever begins to upload after that writes objects that are
   * younger than any grace. What it throws ends the run
   */
  permit?: (() => Promise<void>) | undefined;
  /** counts what would be deleted */
  dryRun?: boolean;
  signal?: AbortSignal;
  onProgress?: (report: Readonly<GcReport>) => void;
}

export interface GcReport {
  /** with a head */
  sprites: number;
  reachablePacks: number;
  reachablePages: number;
  deletedPacks: number;
  deletedPages: number;
  deletedDocuments: number;
  deletedBytes: number;
  /** unreachable, but younger than the grace period */
  keptYoung: number;
  /** keys of pages that could not be read: with one, no pack and no page is deleted */
  damaged: string[];
  /** what needs these pages */
  holders: DamageHolder[];
}

/**
 * Deletes the packs, pages and checkpoint documents of an organization that nothing reaches, and what probes have left. Safe while sprites upload, fork
 * and delete (docs/formats/storage.md says why), and when it is cut off.
 *
 * @throws HobError `data_damaged`, `store_unsupported` when a head or a document cannot be read: nothing was deleted then;
 *   what the store and `permit` throw
 */
export async function collectGarbage(options: GcOptions): Promise<GcReport> {
  const { store, org } = options;
  const keys = new OrgKeys(org);
  const now = await storeTime(store, keys.gc);
  await options.permit?.();
  const marker = await mark(options);
  const report: GcReport = {
    sprites: marker.sprites,
    reachablePacks: marker.packs.size,
    reachablePages: marker.pages.size,
    deletedPacks: 0,
    deletedPages: 0,
    deletedDocuments: 0,
    deletedBytes: 0,
    keptYoung: 0,
    damaged: [...marker.damaged],
    holders: marker.damaged.size === 0 ? [] : await findDamageHolders({ store, org, damaged: marker.damaged, signal: options.signal }),
  };
  const sweep = new Sweep(options, now, report);
  if (marker.damaged.size === 0) {
    report.deletedPacks = await sweep.run(keys.packs, (name) => isHash(name) && !marker.packs.has(name));
    report.deletedPages = await sweep.run(keys.maps, (name) => isHash(name) && !marker.pages.has(name));
  }
  const isDocument = (name: string): boolean => /^[^/]+\/(checkpoints\/[^/]+|start)\.json$/.test(name);
  report.deletedDocuments = await sweep.run(keys.sprites, (name) => isDocument(name) && !marker.documents.has(keys.sprites + name));
  // Somebody may be trying the store just now, whatever the grace is.
  const graceMs = Math.max(options.graceMs ?? GC_GRACE_MS, PROBE_MS_MAX);
  report.deletedDocuments += await new Sweep({ ...options, graceMs }, now, report).run(PROBES, (name) => /^[0-9a-f]{24}$/.test(name));
  return report;
}

async function mark({ store, org, signal }: GcOptions): Promise<Marker> {
  const marker = new Marker(store, org, signal);
  try {
    await marker.pass();
    // The second list begins after the first pass: see "Reclaiming space" in docs/formats/storage.md.
    await marker.pass();
    return marker;
  } catch (error) {
    if (!(error instanceof HobError) || error.code !== "data_damaged") throw error;
    const { message, details, hint } = error;
    throw new HobError("data_damaged", `nothing was removed, of no sprite: ${message}`, {
      cause: error,
      details,
      ...(hint === undefined ? {} : { hint: `${hint}; what it reaches cannot be known before` }),
    });
  }
}

/** Now, by the store's clock: ages must not depend on this machine's. */
async function storeTime(store: ObjectStore, key: string): Promise<number> {
  const record = { format: "hob-gc", version: 1, startedAt: new Date().toISOString() };
  await store.put(key, Buffer.from(`${JSON.stringify(record)}\n`));
  const info = await store.head(key);
  if (info === undefined) throw new HobError("store_failed", `${key} is not there right after it was written`);
  return info.modifiedAt.getTime();
}

class Sweep {
  readonly #options: GcOptions;
  readonly #now: number;
  readonly #report: GcReport;

  constructor(options: GcOptions, now: number, report: GcReport) {
    this.#options = options;
    this.#now = now;
    this.#report = report;
  }

  /** Deletes what is old and garbage below a prefix, and returns how many. */
  async run(prefix: string, isGarbage: (name: string) => boolean): Promise<number> {
    const { store, graceMs = GC_GRACE_MS, signal } = this.#options;
    let deleted = 0;
    let batch: string[] = [];
    for await (const { key, sizeBytes, modifiedAt } of listAll(store, prefix, signal === undefined ? {} : { signal })) {
      if (!isGarbage(key.slice(prefix.length))) continue;
      if (this.#now - modifiedAt.getTime() <= graceMs) {
        this.#report.keptYoung++;
        continue;
      }
      deleted++;
      this.#report.deletedBytes += sizeBytes;
      batch.push(key);
      if (batch.length >= BATCH) {
        await this.#delete(batch);
        batch = [];
      }
    }
    await this.#delete(batch);
    return deleted;
  }

  async #delete(keys: readonly string[]): Promise<void> {
    const { store, signal, dryRun = false, onProgress } = this.#options;
    signal?.throwIfAborted();
    if (!dryRun) await mapLimit(keys, CONCURRENT_DELETES, (key) => store.delete(key));
    onProgress?.({ ...this.#report });
  }
}
