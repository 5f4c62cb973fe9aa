import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { chooseTcgThreads } from "../../src/machine/tcg-threads.ts";
import type { Disk, VmConfig } from "../../src/vmm/driver.ts";
import { GUEST_NETWORK, type QemuFiles, type QemuHost, qemuArguments } from "../../src/vmm/qemu/arguments.ts";

const image = (path: string): Disk => ({ path, readOnly: true, owned: false });
const disks: Disk[] = [image("root.erofs"), { path: "volume.raw", readOnly: false, owned: true }, image("pilot.erofs")];

const config: VmConfig = {
  directory: "/run/hob/x/sprite",
  consoleLog: "/home/hob/console.log",
  machine: { cpus: 3, ramMb: 768 },
  kernel: "/cache/vmlinux",
  initramfs: "/cache/initramfs.img",
  disks,
  ramFile: "/home/hob/memory.ram",
  pilotPort: 40123,
  isolated: false,
  credentials: undefined,
};

/** Seven descriptors from 3 on, as the driver hands them over. */
const files: QemuFiles = {
  kernel: "/proc/self/fd/3",
  initramfs: "/proc/self/fd/4",
  ram: "/proc/self/fd/5",
  console: "/proc/self/fd/6",
  disks: ["/proc/self/fd/7", "/proc/self/fd/8", "/proc/self/fd/9"],
};

const kvm: QemuHost = { accelerator: "kvm", tscKhz: 0, tcgThreads: "multi", network: "passt" };
const tcg: QemuHost = { accelerator: "tcg", tscKhz: 2_100_000, tcgThreads: "multi", network: "passt" };
const HOSTS = { kvm, tcg, "tcg with slirp": { ...tcg, network: "slirp" } } as const satisfies Record<string, QemuHost>;

/** Every value that follows this option. */
function values(args: readonly string[], option: string): string[] {
  return args.flatMap((argument, index) => (argument === option ? [args[index + 1] ?? ""] : []));
}

function only(args: readonly string[], option: string): string {
  const found = values(args, option);
  assert.equal(found.length, 1, `${option} is given ${found.length} times`);
  return found[0] ?? "";
}

const properties = (text: string): string[] => text.split(",");
const commandLine = (host: QemuHost): string[] => only(qemuArguments(config, files, host), "-append").split(" ");

for (const [name, host] of Object.entries(HOSTS)) {
  describe(`a VM under ${name}`, () => {
    const args = qemuArguments(config, files, host);

    test("is a microvm with nothing that QEMU adds by itself: no PCI, no USB, no configuration files", () => {
      assert.equal(properties(only(args, "-M"))[0], "microvm");
      assert(properties(only(args, "-M")).includes("usb=off"));
      assert(!properties(only(args, "-M")).includes("pcie=on"));
      for (const option of ["-nodefaults", "-no-user-config", "-no-reboot"]) assert(args.includes(option), option);
      assert(!args.some((argument) => /pci/i.test(argument)), "nothing speaks of PCI");
      assert(
        values(args, "-device").every((device) => /^virtio-[a-z]+-device(,|$)/.test(device)),
        "every device is on virtio-mmio",
      );
    });

    test("has QEMU's sandbox on, with every class of calls denied that it can deny", () => {
      const [first, ...denied] = properties(only(args, "-sandbox"));
      assert.equal(first, "on");
      assert.deepEqual(denied.sort(), ["elevateprivileges=deny", "obsolete=deny", "resourcecontrol=deny", "spawn=deny"]);
    });

    test("has the size that was asked for, and its memory in a shared file of its own", () => {
      assert.equal(only(args, "-smp"), "3");
      assert.equal(only(args, "-m"), "768M");
      const memory = properties(only(args, "-object"));
      for (const wanted of ["memory-backend-file", "size=768M", "mem-path=/proc/self/fd/5", "share=on"])
        assert(memory.includes(wanted), wanted);
      const id = memory.find((property) => property.startsWith("id="))?.slice(3);
      assert(properties(only(args, "-M")).includes(`memory-backend=${id}`), "the machine uses that file");
    });

    test("has its disks in order, images read-only, and discards passed down from the one that is not", () => {
      const drives = values(args, "-blockdev").map(properties);
      assert.deepEqual(
        drives.map((drive) => drive.find((property) => property.startsWith("file.filename="))),
        files.disks.map((path) => `file.filename=${path}`),
      );
      assert.deepEqual(
        drives.map((drive) => drive.includes("read-only=on")),
        [true, false, true],
      );
      assert.deepEqual(
        drives.map((drive) => drive.includes("discard=unmap")),
        [false, true, false],
      );
      const nodes = drives.map((drive) => drive.find((property) => property.startsWith("node-name="))?.slice(10));
      const attached = values(args, "-device").filter((device) => device.startsWith("virtio-blk-device,"));
      assert.deepEqual(
        attached.map((device) =>
          properties(device)
            .find((property) => property.startsWith("drive="))
            ?.slice(6),
        ),
        nodes,
      );
    });

    test("opens no file by a path of its own: only sockets in its folder, and descriptors", () => {
      const paths = args.join(" ").match(/(?<=[=: ]|^)\/[^, ]*/g) ?? [];
      for (const path of paths) assert(path.startsWith("/proc/self/fd/") || path.startsWith(`${config.directory}/`), path);
    });

    test("has no secret and no name on the kernel's command line, and version 1 of cgroups off", () => {
      const words = commandLine(host);
      assert(words.includes("cgroup_no_v1=all"));
      assert(words.includes("console=ttyS0"));
      for (const word of words) assert.match(word, /^[\w.]+(=[\w.,]+)?$/);
    });
  });
}

test("KVM gives the guest the host's processor, TCG the best that it can emulate", () => {
  const [withKvm, withTcg] = [qemuArguments(config, files, kvm), qemuArguments(config, files, tcg)];
  assert.equal(only(withKvm, "-accel"), "kvm");
  assert.equal(only(withKvm, "-cpu"), "host");
  assert.equal(properties(only(withTcg, "-accel"))[0], "tcg");
  assert.equal(properties(only(withTcg, "-cpu"))[0], "max");
});

test("TCG has a thread for each CPU only where QEMU translates code that changes without a race", async () => {
  const version = (stdout: string) => ({ run: async () => ({ stdout, stderr: "" }) });
  for (const [text, threads] of [
    ["QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", "single"],
    ["QEMU emulator version 8.0.5", "single"],
    ["QEMU emulator version 8.1.0", "multi"],
    ["QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)", "multi"],
    ["QEMU emulator version 10.0.2", "multi"],
    ["something else", "single"],
  ] as const) {
    assert.equal(await chooseTcgThreads(version(text), "qemu-system-x86_64"), threads, text);
  }
  assert.equal(await chooseTcgThreads({ run: () => Promise.reject(new Error("no such program")) }, "qemu"), "single");
  for (const tcgThreads of ["single", "multi"] as const) {
    const accelerator = properties(only(qemuArguments(config, files, { ...tcg, tcgThreads }), "-accel"));
    assert.deepEqual(accelerator.slice(0, 2), ["tcg", `thread=${tcgThreads}`]);
  }
});

test("the frequency of the TSC is told under TCG, where it was measured, and nowhere else", () => {
  const tells = (host: QemuHost) => commandLine(host).filter((word) => word.startsWith("tsc_early_khz="));
  assert.deepEqual(tells(tcg), ["tsc_early_khz=2100000"]);
  assert.deepEqual(tells({ ...tcg, tscKhz: 0 }), []);
  assert.deepEqual(tells({ ...kvm, tscKhz: 2_100_000 }), []);
});

test("the network is passt's socket; with slirp, one forwarded port on the loopback and nothing else", () => {
  const passt = only(qemuArguments(config, files, tcg), "-netdev");
  assert(properties(passt).includes(`addr.path=${config.directory}/passt.sock`));
  const slirp = properties(only(qemuArguments(config, files, HOSTS["tcg with slirp"]), "-netdev"));
  const forwards = slirp.filter((property) => property.includes("fwd="));
  assert.deepEqual(forwards, [`hostfwd=tcp:127.0.0.1:40123-${GUEST_NETWORK.address}:${GUEST_NETWORK.pilotPort}`]);
});

test("every VM has the same hardware address: a clone has that of its template", () => {
  const other = qemuArguments({ ...config, directory: "/run/hob/x/other", pilotPort: 1 }, files, tcg);
  const network = (args: string[]) => values(args, "-device").filter((device) => device.startsWith("virtio-net-device"));
  assert.deepEqual(network(other), network(qemuArguments(config, files, tcg)));
  assert(network(other)[0]?.endsWith(`mac=${GUEST_NETWORK.mac}`));
});
