import { createHash } from "node:crypto";
import { mkdir, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { ImageSet } from "@hob/images";
import { diskBytes, HobError } from "@hob/protocol";
import type { Credentials, Disk, Vm, VmConfig, VmmDriver } from "../vmm/driver.ts";
import { explainStart } from "./failed-start.ts";
import type { SpriteFiles } from "./paths.ts";
import { PilotClient } from "./pilot-client.ts";
import { findFreePort } from "./ports.ts";
import { forgetRest } from "./rest.ts";
import type { MachineSpec } from "./sprite-runtime.ts";

/** Starts that lose the race for their port are tried again. */
const START_ATTEMPTS = 3;

/** What is the same for every VM of this daemon. */
export interface VmFactory {
  driver: VmmDriver;
  images: ImageSet;
}

/** Boots a VM from its kernel; it runs when this returns. */
export const bootVm = (factory: VmFactory, files: SpriteFiles, machine: MachineSpec): Promise<Vm> =>
  startVm(factory, files, machine, (config) => factory.driver.boot(config));

/**
 * Lets a saved VM go on. The saved devices are removed before it does: from its first instruction on, its memory is no
 * longer the one that they fit, whatever becomes of this process.
 * @param isolated nothing leads out of it, see VmConfig
 */
export async function restoreVm(factory: VmFactory, files: SpriteFiles, machine: MachineSpec, isolated = false): Promise<Vm> {
  const vm = await startVm(factory, files, machine, (config) => factory.driver.restore({ ...config, isolated }, files.state));
  try {
    await Promise.all([rm(files.state, { force: true }), rm(files.stateInfo, { force: true })]);
    await vm.resume();
    return vm;
  } catch (error) {
    await vm.kill();
    await rm(files.run, { recursive: true, force: true });
    throw error;
  }
}

type Start = (config: VmConfig) => Promise<Vm>;

async function startVm(factory: VmFactory, files: SpriteFiles, machine: MachineSpec, start: Start): Promise<Vm> {
  await forgetRest(files);
  for (let attempt = 1; ; attempt++) {
    await rm(files.run, { recursive: true, force: true });
    // VMMs of other users have to reach their folders in it.
    await mkdir(dirname(files.run), { recursive: true, mode: 0o711 });
    await mkdir(files.run, { mode: 0o700 });
    const config = vmConfig(factory.images, files, machine, await findFreePort());
    try {
      return await start(config);
    } catch (error) {
      const final = attempt >= START_ATTEMPTS || (error instanceof HobError && error.code === "missing_tool");
      if (!final) continue;
      await rm(files.run, { recursive: true, force: true });
      throw await explainStart(error, files.directory);
    }
  }
}

function vmConfig(images: ImageSet, files: SpriteFiles, machine: MachineSpec, pilotPort: number): VmConfig {
  const shared = (path: string): Disk => ({ path, readOnly: true, owned: false });
  return {
    directory: files.run,
    consoleLog: files.console,
    machine,
    kernel: images.kernel,
    initramfs: images.initramfs,
    // The order is known to hob-boot and to the pilot (microvm/platform.ts).
    disks: [
      shared(images.rootNamespace),
      { path: files.volume, readOnly: false, owned: true },
      shared(images.pilot),
      shared(images.systemBase),
      shared(images.platform),
      shared(images.languages),
      { path: files.bootConfig, readOnly: true, owned: true },
    ],
    ramFile: files.ram,
    pilotPort,
    isolated: false,
    credentials: process.getuid?.() === 0 ? vmmUser(files.directory) : undefined,
  };
}

/** First of the user ids that VMMs get: beyond those of people, containers and systemd's dynamic users. */
const FIRST_VMM_UID = 0x7000_0000;

/**
 * A daemon that runs as root gives every VMM a user of its own, who owns nothing else, so that one that is broken into
 * can neither see nor signal another. The id follows from the VM's folder: nothing needs to remember it.
 */
function vmmUser(directory: string): Credentials {
  const id = FIRST_VMM_UID + (createHash("sha256").update(directory).digest().readUInt32BE(0) & 0x0fff_ffff);
  return { uid: id, gid: id };
}

/** Lets a VM whose save failed run on. @returns false when it cannot */
export const goesOn = (vm: Vm, pilotToken: string): Promise<boolean> =>
  vm
    .resume()
    .then(() => new PilotClient(vm.pilotPort, pilotToken).thaw())
    .then(
      () => true,
      () => false,
    );

/** Whether the VM has not ended yet, to be asked again and again. */
export function aliveness(vm: Vm): () => boolean {
  let gone = false;
  const end = () => {
    gone = true;
  };
  vm.exited.then(end, end);
  return () => !gone;
}

/** A new, empty data disk for a volume of this size: sparse, so that it takes what is written and no more. */
export async function createVolume(path: string, storageGb: number): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.truncate(diskBytes(storageGb));
  } finally {
    await file.close();
  }
}
