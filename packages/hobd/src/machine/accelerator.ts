import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandRunner } from "@hob/linux";
import type { Accelerator } from "../vmm/qemu/arguments.ts";

/** Which accelerator QEMU gets, and why. */
export interface AcceleratorVerdict {
  accelerator: Accelerator;
  reason: string;
}

const PROBE_TIMEOUT_MS = 5_000;
const KVM_DEVICE = "/dev/kvm";

/** Arguments of the probe: the smallest VM of the kind that sprites run in; `hob-boot probe` is its init. */
export const probeArguments = (kernel: string, initramfs: string): readonly [string, ...string[]] => [
  "qemu-system-x86_64",
  ...[
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-M",
    "microvm,acpi=on,x-option-roms=off,pit=on,pic=on,rtc=on,isa-serial=on",
  ],
  ...["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "256M", "-serial", "stdio"],
  ...["-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 reboot=t panic=1 quiet -- probe"],
];

export interface AcceleratorProbe {
  runner: CommandRunner;
  kernel: string;
  initramfs: string;
  /** where the verdict is kept; it holds for one boot of the host and one state of the device */
  cacheFile: string;
  device?: string;
}

/**
 * KVM where a guest really runs under it, else TCG: some hosts show a /dev/kvm that cannot run a stock kernel, and it
 * then hangs rather than fails.
 */
export async function chooseAccelerator(probe: AcceleratorProbe): Promise<AcceleratorVerdict> {
  const key = await cacheKey(probe);
  if (key === undefined) return { accelerator: "tcg", reason: `${probe.device ?? KVM_DEVICE} does not exist` };
  const cached = await readVerdict(probe.cacheFile, key);
  if (cached !== undefined) return cached;
  const verdict = await runProbe(probe);
  await writeFile(probe.cacheFile, JSON.stringify({ key, verdict })).catch(() => {});
  return verdict;
}

async function runProbe({ runner, kernel, initramfs }: AcceleratorProbe): Promise<AcceleratorVerdict> {
  const folder = await mkdtemp(join(tmpdir(), "hob-probe-"));
  try {
    const { stdout } = await runner.run({ argv: probeArguments(kernel, initramfs), timeoutMs: PROBE_TIMEOUT_MS, cwd: folder });
    if (stdout.includes("hob-probe-ok")) return { accelerator: "kvm", reason: "a probe guest reached user space" };
    return { accelerator: "tcg", reason: "KVM: the probe guest ended before it reached user space" };
  } catch (error) {
    return { accelerator: "tcg", reason: `KVM: ${(error as Error).message.split("\n")[0]}` };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function cacheKey({ device = KVM_DEVICE, kernel }: AcceleratorProbe): Promise<string | undefined> {
  const found = await stat(device).catch(() => undefined);
  if (found === undefined) return undefined;
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  return JSON.stringify([boot.trim(), found.rdev, found.mode, found.uid, found.gid, process.getuid?.(), kernel]);
}

async function readVerdict(file: string, key: string): Promise<AcceleratorVerdict | undefined> {
  try {
    const cached = JSON.parse(await readFile(file, "utf8")) as { key: string; verdict: AcceleratorVerdict };
    return cached.key === key ? cached.verdict : undefined;
  } catch {
    return undefined;
  }
}
