import { createHash } from "node:crypto";
import { readFile, rm, stat } from "node:fs/promises";
import { HobError } from "@hob/protocol";
import { readJson, writeJson } from "../vmm/qemu/processes.ts";
import type { VmFactory } from "./machine.ts";
import type { SpriteFiles } from "./paths.ts";

/** What a VM was started with. */
interface StartInfo {
  images: string;
  /** folders of the image cache that these images are in */
  components: string[];
  vmm: string;
}

/** What a saved VM fits; anything else is started from its disk. */
interface Fit extends StartInfo {
  /** memory saved before a crash of the host may be incomplete on disk */
  hostBoot: string;
}

/**
 * What was saved. A VMM takes whatever it reads for a state, and a guest whose memory is not its own may write nonsense to
 * its disk before it is found out.
 */
interface Content {
  /** SHA-256 of the device state, hexadecimal */
  devices: string;
  /** The memory is too large to be read at every save and wake: any change of the file shows in these. */
  ramBytes: string;
  /** nanoseconds */
  ramModified: string;
}

interface StateInfo extends Fit {
  content?: Content;
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

  /**
   * To be called when memory and devices are in their files, and nobody has them open any more. They fit what the VM was started with,
   * which is not what this daemon has when an earlier one has started it.
   */
  async complete(files: SpriteFiles): Promise<void> {
    const [started, present] = [await readJson<Partial<StartInfo>>(files.images), await this.#present()];
    // Notes of earlier versions lack the components: of other images it is then not known where they are.
    const components = started === undefined || started.images === present.images ? present.components : undefined;
    await writeJson(files.stateInfo, { ...present, components, ...started, content: await contentOf(files) });
  }

  /** To be called before a restore. @throws HobError `vm_failed` when memory or devices are not what was saved */
  async verify(files: SpriteFiles): Promise<void> {
    const [info, found] = [await readJson<StateInfo>(files.stateInfo), await contentOf(files).catch(() => undefined)];
    const saved = info?.content;
    for (const part of ["devices", "ramBytes", "ramModified"] as const) {
      if (saved?.[part] === undefined || saved[part] !== found?.[part]) {
        throw new HobError("vm_failed", `restore the memory: the files are not what was saved (${part})`);
      }
    }
  }

  /** Removes the save; the memory as well, which without its devices is worth nothing. */
  async drop(files: SpriteFiles): Promise<void> {
    await Promise.all([files.state, files.stateInfo, files.ram].map((path) => rm(path, { force: true })));
  }

  /** Removes a save that nobody can restore any more: it is not complete, or the host has booted since. */
  async dropWorthless(files: SpriteFiles): Promise<void> {
    if ((await readJson<StateInfo>(files.stateInfo))?.hostBoot !== (await bootOfHost())) await this.drop(files);
  }

  /** Notes that the sprite runs with the present images. */
  async noteImages(files: SpriteFiles): Promise<void> {
    const { hostBoot: _, ...started } = await this.#present();
    await writeJson(files.images, started);
  }

  /** Whether the sprite was last started with the present images. */
  async hasPresentImages(files: SpriteFiles): Promise<boolean> {
    return (await readJson<{ images: string }>(files.images))?.images === this.#factory.images.hash;
  }

  async #present(): Promise<Fit> {
    const { images, driver } = this.#factory;
    return { images: images.hash, components: images.components, vmm: await driver.fingerprint(), hostBoot: await bootOfHost() };
  }
}

async function contentOf({ state, ram }: SpriteFiles): Promise<Content> {
  const [devices, { size, mtimeNs }] = await Promise.all([readFile(state), stat(ram, { bigint: true })]);
  return { devices: createHash("sha256").update(devices).digest("hex"), ramBytes: String(size), ramModified: String(mtimeNs) };
}

/** Names this run of the host's kernel, random(4). */
export const bootOfHost = async (): Promise<string> => (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
