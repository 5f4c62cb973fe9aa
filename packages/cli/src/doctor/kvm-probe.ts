import { join } from "node:path";
import type { Machine } from "./check.ts";

/**
 * The probe of hobd's runtime, with its cached verdict, where the images that it boots exist already:
 * building them would take minutes, which nobody expects of a check.
 */
export async function findKvmProbe({
  home,
  cacheDir,
  runner,
}: Pick<Machine, "home" | "cacheDir" | "runner">): Promise<Machine["probeKvm"]> {
  const [{ ImageCache }, { chooseAccelerator }] = await Promise.all([import("@hob/images"), import("@hob/hobd/machine/accelerator.ts")]);
  const cached = await new ImageCache(join(cacheDir, "images")).list();
  const newest = (component: string): string | undefined =>
    cached
      .filter(({ manifest }) => manifest.component === component)
      .sort((left, right) => right.manifest.builtAt.localeCompare(left.manifest.builtAt))[0]?.directory;
  const [root, initramfs] = [newest("root"), newest("initramfs")];
  if (root === undefined || initramfs === undefined) return undefined;
  return async () => {
    const probe = {
      runner,
      kernel: join(root, "vmlinux"),
      initramfs: join(initramfs, "initramfs.img"),
      cacheFile: join(home, "accelerator.json"),
    };
    const { accelerator, reason } = await chooseAccelerator(probe);
    return { usable: accelerator === "kvm", reason };
  };
}
