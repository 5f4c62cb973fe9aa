import type { CacheEntry } from "@hob/hobd";
import { type Command, InvalidArgumentError } from "commander";
import { durationSeconds } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import { formatAge, formatBytes } from "../output/format.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";

interface CacheFlags {
  olderThan?: number;
  dryRun?: boolean;
  json?: boolean;
}

const HOUR_SECONDS = 60 * 60;

export const register: Register = (program, cli) => {
  const cache = program
    .command("cache")
    .description("Show and free what the cache holds: images, templates and compiled code of this and of earlier versions");
  const list = cache
    .command("list")
    .description("List images, templates and compiled code with their sizes on the disk")
    .option("--json", "print JSON");
  withExample(list, "hob cache list");
  list.action((flags: CacheFlags) => listAll(cli, flags));
  const prune = cache
    .command("prune")
    .description("Remove what was not used for a while; safe while daemons and sprites run, which keep what they need")
    .option(
      "--older-than <time>",
      "remove images and compiled code not used for this long, templates after 1d at most (default: HOB_CACHE_KEEP, else 14d)",
      age,
    )
    .option("-n, --dry-run", "only say what would be removed")
    .option("--json", "print JSON");
  withExample(prune, "hob cache prune --dry-run", "hob cache prune --older-than 2d");
  prune.action((flags: CacheFlags) => pruneAll(cli, flags));
  withExample(cache as Command, "hob cache list", "hob cache prune --older-than 2d");
};

/** Younger ones may be what a build under way has found. */
function age(text: string): number {
  const seconds = durationSeconds(text);
  if (seconds < HOUR_SECONDS) throw new InvalidArgumentError("It must be at least 1h: what is younger may be about to be used.");
  return seconds;
}

async function listAll(cli: Cli, flags: CacheFlags): Promise<void> {
  const [{ surveyCache }, { defaultCacheDir }] = await Promise.all([import("@hob/hobd"), import("@hob/images")]);
  const directory = defaultCacheDir();
  const entries = await surveyCache(directory);
  if (flags.json) return cli.printJson({ directory, bytes: sum(entries), entries: entries.map(forPrograms) });
  if (entries.length === 0) return cli.note(`Nothing in ${directory} yet.`);
  cli.print(table(cli, entries));
  cli.note(`${formatBytes(sum(entries))} in ${directory}`);
}

async function pruneAll(cli: Cli, flags: CacheFlags): Promise<void> {
  const [{ cacheKeepMs, loadConfig, pruneCache }, { defaultCacheDir }] = await Promise.all([import("@hob/hobd"), import("@hob/images")]);
  const directory = defaultCacheDir();
  const dryRun = flags.dryRun === true;
  const keepMs = flags.olderThan === undefined ? cacheKeepMs(loadConfig(cli.env)) : flags.olderThan * 1000;
  const { removed, kept } = await pruneCache(directory, { keepMs, dryRun });
  const [bytes, keptBytes] = [sum(removed), sum(kept)];
  if (flags.json) return cli.printJson({ directory, dry_run: dryRun, bytes, kept_bytes: keptBytes, removed: removed.map(forPrograms) });
  if (removed.length > 0) cli.print(table(cli, removed));
  const what = `${formatBytes(bytes)} in ${removed.length} ${removed.length === 1 ? "entry" : "entries"}`;
  cli.print(`${dryRun ? "Would remove" : cli.style.green("Removed")} ${what}`);
  cli.note(`${formatBytes(keptBytes)} stay: they are needed, or were used not long ago ('hob cache list').`);
}

const sum = (entries: readonly CacheEntry[]): number => entries.reduce((total, { bytes }) => total + bytes, 0);

const forPrograms = ({ kind, name, directory, bytes, lastUsedMs, neededBy }: CacheEntry) => ({
  ...{ kind, name, directory, bytes },
  last_used_at: new Date(lastUsedMs).toISOString(),
  needed_by: neededBy,
});

function table(cli: Cli, entries: readonly CacheEntry[]): string {
  const now = Date.now();
  const rows = entries.map(({ kind, name, bytes, lastUsedMs, neededBy }) => [
    ...[kind, name, formatBytes(bytes), formatAge(lastUsedMs, now)],
    neededBy.join(", ") || "-",
  ]);
  return renderTable(["KIND", "NAME", "SIZE", "LAST USE", "NEEDED BY"], rows, (cell, _column, row) =>
    row < 0 ? cli.style.bold(cell) : cell,
  );
}
