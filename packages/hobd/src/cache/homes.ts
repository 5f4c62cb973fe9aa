import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { homeLayout } from "../daemon/home.ts";
import { bootOfHost } from "../runtime/saved-state.ts";

/** What the sprites that sleep in all homes need of the images. */
export interface SleepersNeeds {
  /** sprites by name of the component */
  readonly components: ReadonlyMap<string, number>;
  /** saves of which it is not known what they need */
  readonly unknown: readonly string[];
}

/** Notes in the cache that a home uses it: whoever removes images asks its sprites first. */
export async function noteHome(cacheDir: string, home: string): Promise<void> {
  const folder = homesOf(cacheDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, `${createHash("sha256").update(home).digest("hex").slice(0, 16)}.json`), JSON.stringify({ home }));
}

/**
 * Looks through the saves of all homes. A sprite that sleeps has its own copy of what it got from its template, and needs the images only:
 * its memory holds parts of them, and images that are built anew may have newer packages. A save of another boot of the host is not
 * restored any more, and a cold sprite starts with the images that the daemon has then.
 */
export async function needsOfSleepers(cacheDir: string): Promise<SleepersNeeds> {
  const components = new Map<string, number>();
  const unknown: string[] = [];
  const boot = await bootOfHost();
  for (const sprites of await knownHomes(cacheDir, unknown)) {
    for (const id of await listFolder(sprites, unknown)) {
      const path = join(sprites, id, "state.json");
      const save = await readSave(path);
      if (save === undefined || (save !== "unreadable" && save.hostBoot !== boot)) continue;
      if (save === "unreadable" || save.components === undefined) unknown.push(path);
      else for (const name of save.components) components.set(name, (components.get(name) ?? 0) + 1);
    }
  }
  return { components, unknown };
}

const homesOf = (cacheDir: string): string => join(cacheDir, "homes");

/** Folders of sprites. The record of a home that is gone goes too. */
async function knownHomes(cacheDir: string, unknown: string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of await readdir(homesOf(cacheDir)).catch(() => [])) {
    const record = join(homesOf(cacheDir), name);
    try {
      const { home } = JSON.parse(await readFile(record, "utf8")) as { home: string };
      await readdir(home);
      found.push(homeLayout(home).sprites);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") await rm(record, { force: true });
      else unknown.push(record);
    }
  }
  return found;
}

async function listFolder(path: string, unknown: string[]): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") unknown.push(path);
    return [];
  }
}

interface Save {
  hostBoot?: string;
  /** saves of earlier versions lack it */
  components?: string[];
}

/** A damaged record is not restored from, and needs nothing. */
async function readSave(path: string): Promise<Save | "unreadable" | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "") ? undefined : "unreadable";
  }
  try {
    return JSON.parse(text) as Save;
  } catch {
    return undefined;
  }
}
