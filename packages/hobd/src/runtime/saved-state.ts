import { readFile, rm } from "node:fs/promises";
import { readJson, writeJson } from "../vmm/qemu/processes.ts";
import type { VmFactory } from "./machine.ts";
import type { SpriteFiles } from "./paths.ts";

/** What a saved VM fits; anything else is started from its disk. */
interface StateInfo {
  images: string;
  vmm: string;
  /** memory saved before a crash of the host may be incomplete on disk */
  hostBoot: string;
}

/** The saves of sprites: whether one can still be restored, and which images a sprite was started with. */
export class SavedStates {
  readonly #factory: VmFactory;

  constructor(factory: VmFactory) {
    this.#factory = factory;
  }

  /** Whether images, VMM and boot of the host are those of the save. */
  async isRestorable(files: SpriteFiles): Promise<boolean> {
    const [found, wanted] = [await readJson<StateInfo>(files.stateInfo), await this.#present()];
    return found?.images === wanted.images && found.vmm === wanted.vmm && found.hostBoot === wanted.hostBoot;
  }

  /** To be called when memory and devices are on disk. */
  async complete(files: SpriteFiles): Promise<void> {
    await writeJson(files.stateInfo, await this.#present());
  }

  /** Removes the save; the memory as well, which without its devices is worth nothing. */
  async drop(files: SpriteFiles): Promise<void> {
    await Promise.all([files.state, files.stateInfo, files.ram].map((path) => rm(path, { force: true })));
  }

  /** Notes that the sprite runs with the present images. */
  async noteImages(files: SpriteFiles): Promise<void> {
    await writeJson(files.images, { images: this.#factory.images.hash });
  }

  /** Whether the sprite was last started with the present images. */
  async hasPresentImages(files: SpriteFiles): Promise<boolean> {
    return (await readJson<{ images: string }>(files.images))?.images === this.#factory.images.hash;
  }

  async #present(): Promise<StateInfo> {
    const { images, driver } = this.#factory;
    return { images: images.hash, vmm: await driver.fingerprint(), hostBoot: await bootOfHost() };
  }
}

/** Names this run of the host's kernel, random(4). */
export const bootOfHost = async (): Promise<string> => (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
