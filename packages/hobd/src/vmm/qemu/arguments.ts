import type { TcgThreads } from "../../machine/tcg-threads.ts";
import type { VmConfig } from "../driver.ts";

export type Accelerator = "kvm" | "tcg";

/** What the arguments depend on besides the VM itself. */
export interface QemuHost {
  accelerator: Accelerator;
  /** kHz of the host's TSC, given to guests under TCG; 0 = unknown */
  tscKhz: number;
  tcgThreads: TcgThreads;
  /** `passt`: QEMU connects to passt's socket; `slirp`: QEMU's own user-mode network */
  network: "passt" | "slirp";
}

/** Files reach QEMU as inherited descriptors: it may run as a user who cannot see the folders they are in. */
export interface QemuFiles {
  kernel: string;
  initramfs: string;
  ram: string;
  console: string;
  disks: readonly string[];
}

/** The network as the guest sees it; the same in every VM, because a template is cloned with its addresses. */
export const GUEST_NETWORK = {
  device: "eth0",
  mac: "52:54:00:68:6f:62",
  address: "10.9.0.2",
  prefixLength: 24,
  gateway: "10.9.0.1",
  dns: "10.9.0.3",
  pilotPort: 8080,
} as const;

/** A text that changes whenever the machine that the guest sees changes: a saved state fits one such machine only. */
export function machineDescription(host: QemuHost): string {
  const machine = { cpus: 1, ramMb: 512, storageGb: 1 };
  const disks = [true, false].map((readOnly) => ({ path: "", readOnly, owned: !readOnly }));
  const config = { directory: "", consoleLog: "", machine, kernel: "", initramfs: "", disks, ramFile: "", pilotPort: 0, isolated: false };
  const files = { kernel: "", initramfs: "", ram: "", console: "", disks: ["", ""] };
  return JSON.stringify(qemuArguments({ ...config, credentials: undefined }, files, host));
}

const MAC = `mac=${GUEST_NETWORK.mac}`;

/**
 * Arguments of qemu-system-*(1).
 *
 * `-M microvm` without PCI; ACPI tables stay because Debian's kernels find virtio-mmio devices through them alone.
 * The order of the devices is the order of the guest's disks, and part of what a saved state fits.
 */
export function qemuArguments(config: VmConfig, files: QemuFiles, host: QemuHost): string[] {
  const { cpus, ramMb } = config.machine;
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-M", "microvm,acpi=on,x-option-roms=off,pit=on,pic=on,rtc=on,isa-serial=on,usb=off,memory-backend=ram0"],
    ...["-accel", host.accelerator === "kvm" ? "kvm" : `tcg,thread=${host.tcgThreads},tb-size=128`],
    ...["-cpu", host.accelerator === "kvm" ? "host" : "max,la57=off"],
    ...["-smp", String(cpus), "-m", `${ramMb}M`],
    ...["-object", `memory-backend-file,id=ram0,size=${ramMb}M,mem-path=${files.ram},share=on`],
    ...["-kernel", files.kernel, "-initrd", files.initramfs, "-append", kernelCommandLine(host)],
    ...config.disks.flatMap((disk, index) => diskArguments(disk.readOnly, files.disks[index] ?? "", index)),
    ...networkArguments(config, host),
    ...["-device", "virtio-rng-device"],
    ...["-chardev", `file,id=console,path=${files.console},append=on`, "-serial", "chardev:console"],
    ...["-qmp", `unix:${config.directory}/qmp.sock,server=on,wait=off`],
    // No new programs, no new privileges, no changes of scheduling: seccomp inside QEMU, "-sandbox" in qemu(1).
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
  ];
}

function diskArguments(readOnly: boolean, path: string, index: number): string[] {
  const access = readOnly ? "read-only=on" : "read-only=off,discard=unmap,detect-zeroes=unmap";
  return [
    "-blockdev",
    `driver=raw,node-name=disk${index},${access},file.driver=file,file.filename=${path},file.locking=off,cache.direct=off`,
    "-device",
    `virtio-blk-device,drive=disk${index}`,
  ];
}

/** passt has no option that closes the way out: a VM without one gets QEMU's own network, which has. */
export const usesPasst = ({ isolated }: Pick<VmConfig, "isolated">, { network }: QemuHost): boolean => network === "passt" && !isolated;

function networkArguments(config: VmConfig, host: QemuHost): string[] {
  if (usesPasst(config, host)) {
    return [
      "-netdev",
      `stream,id=net0,server=off,addr.type=unix,addr.path=${config.directory}/passt.sock`,
      "-device",
      `virtio-net-device,netdev=net0,${MAC}`,
    ];
  }
  const { address, gateway, dns, pilotPort } = GUEST_NETWORK;
  const forward = `hostfwd=tcp:127.0.0.1:${config.pilotPort}-${address}:${pilotPort}`;
  // What the guest sends is dropped, the host included, but for answers on forwarded connections: "-netdev user" in qemu(1).
  const restrict = config.isolated ? "restrict=on," : "";
  // The gateway address is the host's loopback in slirp: it is put where the firewall of the pilot drops everything.
  return [
    "-netdev",
    `user,id=net0,${restrict}net=10.9.0.0/24,host=${gateway},dns=${dns},dhcpstart=10.9.0.15,${forward}`,
    "-device",
    `virtio-net-device,netdev=net0,${MAC}`,
  ];
}

/** kernel-parameters.txt of the kernel names each of these. */
function kernelCommandLine(host: QemuHost): string {
  return [
    "console=ttyS0",
    "reboot=t",
    "panic=1",
    "cgroup_no_v1=all",
    "quiet",
    "loglevel=4",
    "mitigations=off",
    "random.trust_cpu=on",
    // Huge pages only for programs that ask for them: otherwise each touch of 4 KiB may take 2 MiB of the host, and a kernel
    // thread goes on merging pages of an idle guest. admin-guide/mm/transhuge.rst
    "transparent_hugepage=madvise",
    // Under TCG the calibration against the emulated timer now and then never ends; the guest's TSC is the host's.
    ...(host.accelerator === "tcg" && host.tscKhz > 0 ? [`tsc_early_khz=${host.tscKhz}`, "no_timer_check"] : []),
    // Timer ticks get lost under TCG. The kernel would blame the TSC for it, and go on with the ticks as its clock.
    ...(host.accelerator === "tcg" ? ["tsc=reliable"] : []),
  ].join(" ");
}
