import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { bytesOnDisk, entriesInUse, isLeftover } from "@hob/images";
import { compiledFolder, surveyCompiled } from "./compiled.ts";
import { needsOfSleepers, type SleepersNeeds } from "./homes.ts";

/** One thing in the cache that can be there or not. */
export interface CacheEntry {
  /** `leftover`: what a killed build or removal left; `compiled`: compiled code of one version of Node.js, which goes file by file */
  kind: "image" | "template" | "leftover" | "compiled";
  name: string;
  directory: string;
  /** on the disk */
  bytes: number;
  /** Unix milliseconds of the last use that was noted */
  lastUsedMs: number;
  /** why it is not removed, however long ago that was */
  neededBy: string[];
}

/** Everything in the cache that takes space. What is used longest ago comes first. */
export async function surveyCache(cacheDir: string): Promise<CacheEntry[]> {
  const [images, templates] = [join(cacheDir, "images"), join(cacheDir, "templates")];
  // Who runs comes before who sleeps: a sprite that falls asleep in between is found twice, and not never.
  const [imagesInUse, templatesInUse] = [await entriesInUse(images), await entriesInUse(templates)];
  const needs = await needsOfSleepers(cacheDir);
  const entries = [
    ...(await entriesOf(images, "image", imagesInUse, (name) => reasons(needs, name))),
    ...(await entriesOf(templates, "template", templatesInUse, () => [])),
    ...(await compiledOf(compiledFolder(cacheDir))),
  ];
  return entries.sort((left, right) => left.lastUsedMs - right.lastUsedMs);
}

/** Builds under way are none of anybody's business. */
async function entriesOf(
  root: string,
  kind: "image" | "template",
  inUse: ReadonlySet<string>,
  needs: (name: string) => string[],
): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  const names = await readdir(root).catch(() => []);
  for (const name of names) {
    const directory = join(root, name);
    const leftover = await isLeftover(root, name);
    const found = await stat(directory).catch(() => undefined);
    if (found === undefined || (name.startsWith(".") && !leftover)) continue;
    const common = { name, directory, bytes: await bytesOnDisk(directory), lastUsedMs: found.mtimeMs };
    const running = inUse.has(name) ? ["a running program"] : [];
    entries.push(leftover ? { ...common, kind: "leftover", neededBy: [] } : { ...common, kind, neededBy: [...running, ...needs(name)] });
  }
  return entries;
}

async function compiledOf(root: string): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  for (const name of await readdir(root).catch(() => [])) {
    const directory = join(root, name);
    const code = await surveyCompiled(directory);
    if (code.lastUsedMs > 0) entries.push({ kind: "compiled", name, directory, ...code, neededBy: [] });
  }
  return entries;
}

function reasons({ components, unknown }: SleepersNeeds, name: string): string[] {
  const sprites = components.get(name) ?? 0;
  return [
    ...(sprites === 0 ? [] : [`${sprites} sleeping ${sprites === 1 ? "sprite" : "sprites"}`]),
    ...(unknown.length === 0 ? [] : ["perhaps a sleeping sprite"]),
  ];
}
