import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { defaultCacheDir, type ImageSet } from "@hob/images";
import { type CommandRunner, SystemCommandRunner } from "@hob/linux";
import { MACHINE_LIMITS } from "@hob/protocol";
import type { Logger } from "pino";
import { CacheKeeper } from "../cache/keeper.ts";
import { chooseAccelerator } from "../machine/accelerator.ts";
import { chooseTcgThreads } from "../machine/tcg-threads.ts";
import { measureTscKhz } from "../machine/tsc.ts";
import type { SpriteStorage } from "../object-store/sprite-storage.ts";
import { PROGRAM, QemuDriver } from "../vmm/qemu/driver.ts";
import { RuntimePaths } from "./paths.ts";
import type { MachineSpec } from "./sprite-runtime.ts";
import { StorageLinks } from "./storage-link.ts";
import { type TemplateEvents, TemplateStore } from "./templates.ts";
import { VmRuntime } from "./vm-runtime.ts";

export interface RuntimeOptions {
  home: string;
  /** default: that of the images */
  cacheDir?: string;
  images: ImageSet;
  /** images in the cache that nobody used for this long are removed, milliseconds; Infinity: never */
  cacheKeepMs: number;
  log: Logger;
  /** what a user may want to see: a template takes half a minute */
  events: TemplateEvents;
  /** build the template of the default machine size ahead, in the background */
  prepare: boolean;
  /** where sprites' data is kept for good */
  storage: SpriteStorage;
  runner?: CommandRunner;
}

const DEFAULT_MACHINE: MachineSpec = {
  cpus: MACHINE_LIMITS.cpus.default,
  ramMb: MACHINE_LIMITS.ramMb.default,
  storageGb: MACHINE_LIMITS.storageGb.default,
};

/** Wires the runtime: accelerator, VMM, templates. */
export async function createRuntime(options: RuntimeOptions): Promise<VmRuntime> {
  const { home, images, log } = options;
  const runner = options.runner ?? new SystemCommandRunner();
  mkdirSync(home, { recursive: true, mode: 0o711 });
  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const paths = new RuntimePaths(home, cacheDir);
  const probe = { runner, kernel: images.kernel, initramfs: images.initramfs, cacheFile: join(home, "accelerator.json") };
  const { accelerator, reason } = await chooseAccelerator(probe);
  log.info({ accelerator, reason }, "accelerator chosen");
  const tscKhz = accelerator === "tcg" ? await measureTscKhz(runner, images.tscMeter) : 0;
  const tcgThreads = await chooseTcgThreads(runner, PROGRAM);
  const driver = new QemuDriver({ host: { accelerator, tscKhz, tcgThreads, network: "passt" }, runner });
  const factory = { driver, images };
  const templates = new TemplateStore(paths, factory, runner, options.events);
  const beforeRound = () => templates.releaseUnused();
  const cache = new CacheKeeper({ cacheDir, home, images, keepMs: options.cacheKeepMs, beforeRound, log });
  const links = new StorageLinks(options.storage);
  return new VmRuntime({ paths, factory, templates, cache, links, log, ...(options.prepare ? { prepare: DEFAULT_MACHINE } : {}) });
}
