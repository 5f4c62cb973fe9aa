import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { chmod, mkdir, readdir, rm, stat, statfs, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { HobError } from "@hob/protocol";
import { hashFile } from "./content-hash.ts";
import { markUsed, putInPlace, removeIf } from "./use.ts";

/** What `manifest.json` of a cached component says. */
export interface ComponentManifest {
  component: string;
  /** hash of the inputs: the folder's name */
  inputHash: string;
  builtAt: string;
  files: Record<string, { sha256: string; bytes: number; mtimeMs: number }>;
}

/** One built part of the guest: a folder whose name carries the hash of what it was built from. */
export interface CachedComponent {
  directory: string;
  manifest: ComponentManifest;
}

/** Leaves what is to be kept in the folder. */
type Build = (directory: string) => Promise<void>;

const MANIFEST = "manifest.json";

/**
 * Images under the hash of their inputs. A component appears by one rename, complete and with its checksums, or not
 * at all; a killed build leaves a folder `.building-*` that the next one removes.
 */
export class ImageCache {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  /**
   * The component, marked as used, or undefined when it is not cached.
   * @throws HobError `image_corrupt` when a file differs from its recorded checksum; it is removed, so that building again helps
   */
  async find(component: string, inputHash: string): Promise<CachedComponent | undefined> {
    const directory = this.#path(component, inputHash);
    for (;;) {
      if (!markUsed(this.root, basename(directory))) return undefined;
      const manifest = readManifest(directory);
      if (manifest === undefined) return undefined;
      const damaged = await damagedFile(directory, manifest);
      if (damaged === undefined) return { directory, manifest };
      // Another process may have put a new one in its place since the manifest was read: that one is looked at then.
      const isTheSame = (path: string) => JSON.stringify(readManifest(path)) === JSON.stringify(manifest);
      if (!(await removeIf(this.root, basename(directory), isTheSame))) continue;
      throw new HobError("image_corrupt", `check image ${damaged} of ${component}: it does not match its checksum`, {
        hint: "it was removed; 'hob image build' builds it again",
      });
    }
  }

  /**
   * Runs `build` in an empty folder and keeps the files that it leaves there, unless another process was faster: two builds of the same inputs
   * may differ, and what is there may be in use.
   * @param replaces also what is there goes
   */
  async add(component: string, inputHash: string, build: Build, { replaces = false } = {}): Promise<CachedComponent> {
    await mkdir(this.root, { recursive: true });
    await this.#assertSpace();
    const building = join(this.root, `.building-${process.pid}-${component}-${randomBytes(4).toString("hex")}`);
    await mkdir(building);
    try {
      await build(building);
      const manifest: ComponentManifest = { component, inputHash, builtAt: new Date().toISOString(), files: await describeFiles(building) };
      await writeFile(join(building, MANIFEST), JSON.stringify(manifest, null, 2));
      const directory = this.#path(component, inputHash);
      const name = basename(directory);
      for (;;) {
        if (await putInPlace(this.root, name, building, (path) => replaces || readManifest(path) === undefined))
          return { directory, manifest };
        const found = await this.find(component, inputHash).catch(unlessCorrupt);
        if (found !== undefined) return found;
      }
    } finally {
      await rm(building, { recursive: true, force: true });
    }
  }

  /** Removes what killed builds left. */
  async removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.root).catch(() => [])) {
      if (await isLeftover(this.root, name)) await rm(join(this.root, name), { recursive: true, force: true });
    }
  }

  async list(): Promise<CachedComponent[]> {
    const found: CachedComponent[] = [];
    for (const name of (await readdir(this.root).catch(() => [])).sort()) {
      const manifest = name.startsWith(".") ? undefined : readManifest(join(this.root, name));
      if (manifest !== undefined) found.push({ directory: join(this.root, name), manifest });
    }
    return found;
  }

  #path(component: string, inputHash: string): string {
    return join(this.root, `${component}-${inputHash.slice(0, 16)}`);
  }

  async #assertSpace(): Promise<void> {
    const { bavail, bsize } = await statfs(this.root);
    const freeMb = Math.floor((bavail * bsize) / 1024 / 1024);
    if (freeMb >= BUILD_SPACE_MB) return;
    throw new HobError("no_space", `build images in ${this.root}: ${freeMb} MB free, ${BUILD_SPACE_MB} MB needed`, {
      hint: "free some space, or choose another folder with HOB_CACHE",
    });
  }
}

/** No build takes that long: what is older was left by a process whose id another one has now. */
const BUILD_MS_MAX = 24 * 60 * 60_000;

/** Whether an entry of a folder of the cache was left by a killed build or a killed removal. */
export async function isLeftover(root: string, name: string): Promise<boolean> {
  const pid = /^\.(?:building|removed)-(\d+)-/.exec(name)?.[1];
  if (pid === undefined) return false;
  if (!isAlive(Number(pid))) return true;
  const found = await stat(join(root, name)).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > BUILD_MS_MAX;
}

/** The finished images take 1.5 GB; a build has the tree and its image at the same time. */
const BUILD_SPACE_MB = 4096;

async function describeFiles(directory: string): Promise<ComponentManifest["files"]> {
  const files: ComponentManifest["files"] = {};
  for (const entry of (await readdir(directory, { withFileTypes: true })).filter((one) => one.isFile())) {
    const path = join(directory, entry.name);
    const { size, mtimeMs, mode } = await stat(path);
    await chmod(path, mode & 0o555);
    files[entry.name] = { sha256: await hashFile(path), bytes: size, mtimeMs };
  }
  return files;
}

/** What was found damaged is gone. */
function unlessCorrupt(error: unknown): undefined {
  if (!(error instanceof HobError && error.code === "image_corrupt")) throw error;
}

/** Name of a file that is not what the manifest says. */
async function damagedFile(directory: string, { files }: ComponentManifest): Promise<string | undefined> {
  for (const [name, expected] of Object.entries(files)) if (!(await isIntact(join(directory, name), expected))) return name;
  return undefined;
}

/** Size and time equal: untouched since it was hashed. Otherwise only the contents can tell. */
async function isIntact(path: string, expected: ComponentManifest["files"][string]): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || found.size !== expected.bytes) return false;
  return found.mtimeMs === expected.mtimeMs || (await hashFile(path)) === expected.sha256;
}

function readManifest(directory: string): ComponentManifest | undefined {
  try {
    const value = JSON.parse(readFileSync(join(directory, MANIFEST), "utf8")) as Partial<ComponentManifest> | null;
    return typeof value?.component === "string" && typeof value.files === "object" && value.files !== null
      ? (value as ComponentManifest)
      : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
