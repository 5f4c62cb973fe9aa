import { dirname } from "node:path";
import { removeUnused } from "@hob/images";
import { pruneCompiled } from "./compiled.ts";
import { type CacheEntry, surveyCache } from "./survey.ts";

const HOUR_MS = 60 * 60_000;
/** What was used this recently stays: a build that is under way has found it, and needs it to the end. */
export const CACHE_KEEP_MS_MIN = HOUR_MS;
/** Templates are large and quickly made again. Other images, other sizes and other versions all end up unused. */
const TEMPLATE_KEEP_MS = 24 * HOUR_MS;
/** Of those that nobody uses this many stay for their time: who changes the sources makes a new one with each change. */
const TEMPLATES_KEPT = 8;

export interface PruneOptions {
  /** images and compiled code that nobody used for this long go, templates after a day at most; Infinity: the former never. At least CACHE_KEEP_MS_MIN */
  keepMs: number;
  /** only say what would be removed */
  dryRun?: boolean;
  /** asked between two removals: whether to stop */
  stopped?: () => boolean;
  /** Unix milliseconds */
  now?: () => number;
}

export interface PruneReport {
  removed: CacheEntry[];
  kept: CacheEntry[];
}

/** Removes from the cache what nobody needs. Safe beside daemons, builds and sprites, also those of other homes. */
export async function pruneCache(cacheDir: string, options: PruneOptions): Promise<PruneReport> {
  const { dryRun = false, stopped = () => false } = options;
  const nowMs = (options.now ?? Date.now)();
  const entries = await surveyCache(cacheDir);
  const limits = unusedSince(entries, Math.max(options.keepMs, CACHE_KEEP_MS_MIN), nowMs);
  const report: PruneReport = { removed: [], kept: [] };
  for (const entry of entries) {
    const limitMs = stopped() ? Number.NEGATIVE_INFINITY : (limits.get(entry) ?? Number.NEGATIVE_INFINITY);
    if (entry.kind === "compiled") await pruneCode(entry, limitMs, dryRun, report);
    // The last word has the time of its mark, under the lock: somebody may have begun to use it since the survey.
    else if (entry.lastUsedMs <= limitMs && (dryRun || (await isRemoved(entry, limitMs)))) report.removed.push(entry);
    else report.kept.push(entry);
  }
  return report;
}

/** A part of it may go, and the rest stay. */
async function pruneCode(entry: CacheEntry, limitMs: number, dryRun: boolean, { removed, kept }: PruneReport): Promise<void> {
  const code = await pruneCompiled(entry.directory, limitMs, dryRun);
  if (code.bytes > 0) removed.push({ ...entry, ...code });
  if (entry.lastUsedMs > limitMs) kept.push({ ...entry, bytes: Math.max(0, entry.bytes - code.bytes) });
}

/** One that cannot be removed is kept, and does not keep the others from going. */
async function isRemoved({ directory, name }: CacheEntry, limitMs: number): Promise<boolean> {
  try {
    return await removeUnused(dirname(directory), name, limitMs);
  } catch {
    return false;
  }
}

/** When an entry must have been used last to go, Unix milliseconds; those that are needed have no such time. */
function unusedSince(entries: readonly CacheEntry[], keepMs: number, nowMs: number): Map<CacheEntry, number> {
  const free = entries.filter(({ neededBy }) => neededBy.length === 0);
  const templates = free.filter(({ kind }) => kind === "template").sort((left, right) => right.lastUsedMs - left.lastUsedMs);
  const surplus = new Set(templates.slice(TEMPLATES_KEPT));
  return new Map(
    free.map((entry) => {
      if (entry.kind === "leftover") return [entry, Number.POSITIVE_INFINITY];
      if (entry.kind === "image" || entry.kind === "compiled") return [entry, nowMs - keepMs];
      return [entry, nowMs - (surplus.has(entry) ? CACHE_KEEP_MS_MIN : Math.min(keepMs, TEMPLATE_KEEP_MS))];
    }),
  );
}
