import { chmod } from "node:fs/promises";
import type { BootConfig } from "../config.ts";
import { PATHS } from "../config.ts";
import { DEVICES } from "../container/spec.ts";
import type { Platform } from "../context.ts";
import { ThinVolume } from "../volume/thin-volume.ts";
import { loadDeviceMapper, loadModules } from "./modules.ts";
import { setUpUplink } from "./uplink.ts";

/** The microVM's disks, in the order in which the launcher attaches them; vda and vdc are mounted by hob-boot. */
const DISKS = { volume: "/dev/vdb", base: "/dev/vdd", platform: "/dev/vde", languages: "/dev/vdf" } as const;

export const microVm = (config: BootConfig): Platform => ({
  layers: [
    { device: DISKS.languages, path: PATHS.layers.languages },
    { device: DISKS.platform, path: PATHS.layers.platform },
    { device: DISKS.base, path: PATHS.layers.base },
  ],
  volume: (runner, helper, origins) =>
    new ThinVolume({ device: DISKS.volume, helper, runner, prepare: () => loadDeviceMapper(runner), origins }),
  prepare: async (runner) => {
    await Promise.all([loadModules(runner), setUpUplink(runner, config.network)]);
    // Everybody in the sprite may use them, as with udev: rootless containers do. devtmpfs makes them for root alone.
    await Promise.all(DEVICES.map((device) => chmod(device, 0o666)));
  },
});
