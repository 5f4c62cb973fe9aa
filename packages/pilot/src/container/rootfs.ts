import { mkdir } from "node:fs/promises";
import type { CommandRunner } from "@hob/linux";
import { PATHS } from "../config.ts";
import type { HelperClient } from "../helper/index.ts";
import type { Volume } from "../volume/volume.ts";
import { ID_MAP } from "./ids.ts";

/** A read-only erofs image and where it is mounted, uppermost first. */
export interface Layer {
  device: string;
  path: string;
}

/**
 * The root file system of the inner container: overlayfs(5) over read-only layers.
 *
 * The layers are mounted idmapped, so that files of root belong to the container's root without a copy of the image
 * (mount_setattr(2)). The upper folder is not: overlayfs refuses an idmapped upper layer, so its files carry the
 * shifted ids on disk.
 */
export class RootFilesystem {
  readonly #layers: readonly Layer[];
  readonly #helper: HelperClient;
  readonly #runner: CommandRunner;

  constructor(layers: readonly Layer[], helper: HelperClient, runner: CommandRunner) {
    this.#layers = layers;
    this.#helper = helper;
    this.#runner = runner;
  }

  /** Mounts the layers; once for the life of the VM. */
  async mountLayers(): Promise<void> {
    const idmap = { base: ID_MAP.firstId, count: ID_MAP.count };
    for (const { device, path } of this.#layers) {
      await this.#helper.idmapMount({ fsType: "erofs", source: device, target: path, attributes: ["ro"], idmap });
    }
  }

  /** Puts the root together with the volume's upper folder. */
  async mount(volume: Volume): Promise<void> {
    await mkdir(PATHS.rootfs, { recursive: true });
    const lower = this.#layers.map((layer) => layer.path).join(":");
    await this.#helper.idmapMount({
      fsType: "overlay",
      source: "overlay",
      target: PATHS.rootfs,
      options: [`lowerdir=${lower}`, `upperdir=${volume.upper}`, `workdir=${volume.work}`],
    });
  }

  async unmount(): Promise<void> {
    await this.#runner.run({ argv: ["umount", PATHS.rootfs], timeoutMs: 30_000 });
  }
}
