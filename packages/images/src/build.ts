import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { type CommandRunner, SystemCommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { type CachedComponent, ImageCache } from "./cache.ts";
import { type BuildContext, COMPONENTS, type Component } from "./components.ts";
import { DEFAULT_RECIPE, type ImageRecipe, imageRecipe } from "./recipe.ts";

/** Files of one complete guest, all read-only and shared by every sprite. */
export interface ImageSet {
  /** identifies the set: equal hash, equal contents */
  hash: string;
  /** names of the folders in the cache that the files are in */
  components: string[];
  kernel: string;
  initramfs: string;
  /** erofs images in the order in which the microVM gets them */
  rootNamespace: string;
  pilot: string;
  systemBase: string;
  platform: string;
  languages: string;
  /** program of the host: prints the frequency of its time stamp counter */
  tscMeter: string;
}

export interface BuildProgress {
  component: string;
  title: string;
  state: "cached" | "building" | "step" | "built";
  /** of a step: what happens now */
  text?: string;
  /** of a finished component */
  elapsedMs?: number;
}

export interface BuildOptions {
  /** folder of the cache; default `$HOB_CACHE`, else `$XDG_CACHE_HOME/hob`, else `~/.cache/hob` */
  cacheDir?: string;
  /** build everything anew, with the newest packages of the suite */
  force?: boolean;
  /** fields that differ from the default recipe; default: those of the file that `$HOB_RECIPE` names, if it is set */
  recipe?: Partial<ImageRecipe>;
  onProgress?: (progress: BuildProgress) => void;
  runner?: CommandRunner;
}

export function defaultCacheDir(): string {
  const { HOB_CACHE, XDG_CACHE_HOME } = process.env;
  return HOB_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "hob");
}

async function configuredRecipe(): Promise<Partial<ImageRecipe>> {
  const { HOB_RECIPE } = process.env;
  return HOB_RECIPE ? readRecipe(HOB_RECIPE) : {};
}

/** Reads a recipe file: JSON with any of the recipe's fields. @throws HobError `invalid_request` naming the field */
export async function readRecipe(path: string): Promise<Partial<ImageRecipe>> {
  const text = await readFile(path, "utf8").catch((cause: Error) => {
    throw new HobError("invalid_request", `read recipe ${path}: ${cause.message}`);
  });
  try {
    return imageRecipe.partial().parse(JSON.parse(text)) as Partial<ImageRecipe>;
  } catch (cause) {
    throw new HobError("invalid_request", `read recipe ${path}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Makes sure that all images exist and returns where they are. With a warm cache this only compares sizes and times.
 * @throws HobError `image_build_failed` | `missing_tool` | `no_space`
 */
export async function buildImages(options: BuildOptions = {}): Promise<ImageSet> {
  const cache = new ImageCache(join(options.cacheDir ?? defaultCacheDir(), "images"));
  const report = options.onProgress ?? (() => {});
  await mkdir(cache.root, { recursive: true });
  await cache.removeLeftovers();
  const built = new Map<string, CachedComponent>();
  const recipe = { ...DEFAULT_RECIPE, ...(options.recipe ?? (await configuredRecipe())) };
  for (const component of COMPONENTS) {
    const context: BuildContext = {
      recipe,
      runner: options.runner ?? new SystemCommandRunner(),
      onStep: (text) => report({ component: component.name, title: component.title, state: "step", text }),
    };
    built.set(component.name, await ensureComponent(cache, component, context, built, options.force === true, report));
  }
  return toImageSet(built);
}

async function ensureComponent(
  cache: ImageCache,
  component: Component,
  context: BuildContext,
  built: Map<string, CachedComponent>,
  force: boolean,
  report: (progress: BuildProgress) => void,
): Promise<CachedComponent> {
  const { name, title } = component;
  const inputHash = await component.inputHash(context);
  const found = force ? undefined : await findIntact(cache, name, inputHash, context);
  if (found !== undefined) {
    report({ component: name, title, state: "cached" });
    return found;
  }
  report({ component: name, title, state: "building" });
  const start = performance.now();
  const directoryOf = (other: string): string => built.get(other)?.directory ?? "";
  const made = await cache.add(name, inputHash, (directory) => component.build(context, directory, directoryOf), { replaces: force });
  report({ component: name, title, state: "built", elapsedMs: performance.now() - start });
  return made;
}

/** A damaged component counts as missing: it is built again, and the progress says why. */
async function findIntact(cache: ImageCache, name: string, inputHash: string, context: BuildContext): Promise<CachedComponent | undefined> {
  try {
    return await cache.find(name, inputHash);
  } catch (error) {
    if (!(error instanceof HobError && error.code === "image_corrupt")) throw error;
    context.onStep(error.message);
    return undefined;
  }
}

/** The files of a set and the component that each comes from. */
const SET_FILES = {
  kernel: ["root", "vmlinux"],
  initramfs: ["initramfs", "initramfs.img"],
  rootNamespace: ["root", "root.erofs"],
  pilot: ["pilot", "pilot.erofs"],
  systemBase: ["system", "base.erofs"],
  platform: ["platform", "platform.erofs"],
  languages: ["system", "languages.erofs"],
  tscMeter: ["pilot", "hob-tsc"],
} as const satisfies Record<Exclude<keyof ImageSet, "hash" | "components">, readonly [component: string, file: string]>;

function toImageSet(built: Map<string, CachedComponent>): ImageSet {
  const hash = createHash("sha256");
  const paths = Object.entries(SET_FILES).map(([role, [name, file]]) => {
    const component = built.get(name);
    const sha256 = component?.manifest.files[file]?.sha256;
    if (component === undefined || sha256 === undefined) throw new HobError("image_build_failed", `collect images: ${name} has no ${file}`);
    hash.update(`${role} ${sha256}\n`);
    return [role, join(component.directory, file)];
  });
  const components = [...built.values()].map(({ directory }) => basename(directory));
  return { ...(Object.fromEntries(paths) as Omit<ImageSet, "hash" | "components">), hash: hash.digest("hex"), components };
}
