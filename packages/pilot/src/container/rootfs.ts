import { mkdir } from "node:fs/promises";
import { PATHS } from "../config.ts";
import type { HelperClient } from "../helper/index.ts";
import { isMounted } from "../volume/mounts.ts";
import type { VolumeTree } from "../volume/volume.ts";
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

  constructor(layers: readonly Layer[], helper: HelperClient) {
    this.#layers = layers;
    this.#helper = helper;
  }

  /** Mounts the layers; once for the life of the VM. */
  async mountLayers(): Promise<void> {
    const idmap = { base: ID_MAP.firstId, count: ID_MAP.count };
    for (const { device, path } of this.#layers) {
      await this.#helper.idmapMount({ fsType: "erofs", source: device, target: path, attributes: ["ro"], idmap });
    }
  }

  /** Puts the root together with a volume's upper folder. */
  async mount({ upper, work }: VolumeTree, target: string = PATHS.rootfs): Promise<void> {
    await mkdir(target, { recursive: true });
    const options = [`lowerdir=${this.#lower()}`, `upperdir=${upper}`, `workdir=${work}`];
    await this.#helper.idmapMount({ fsType: "overlay", source: "overlay", target, options });
  }

  /** The same root as it was with an earlier upper folder, for reading. */
  async mountReadOnly(upper: string, target: string): Promise<void> {
    const options = [`lowerdir=${upper}:${this.#lower()}`];
    await this.#helper.idmapMount({ fsType: "overlay", source: "overlay", target, options, attributes: ["ro", "nosuid", "nodev"] });
  }

  isMounted(): Promise<boolean> {
    return isMounted(PATHS.rootfs);
  }

  async unmount(): Promise<void> {
    await this.#helper.unmount(PATHS.rootfs);
  }

  #lower(): string {
    return this.#layers.map((layer) => layer.path).join(":");
  }
}
