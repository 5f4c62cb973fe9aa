import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { diskBytes } from "@hob/protocol";
import { outputOf, shell } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";

const LIMIT = { timeout: 60_000 };

const suite = useDaemon({ sprites: ["box"] });
const inside = (script: string): Promise<string> => outputOf(suite.sprite("box"), script);
const lines = async (script: string): Promise<string[]> => (await inside(script)).split("\n").filter((line) => line !== "");

/** Each test is a row, or a few, of docs/fingerprint.md. */
describe("hardware", () => {
  test("no PCI bus, no DMI", LIMIT, async () => {
    assert.deepEqual(await lines("ls /sys/bus/pci/devices 2>/dev/null; true"), []);
    assert.deepEqual(await lines("lspci 2>/dev/null; true"), []);
    assert.deepEqual(await lines("ls -d /sys/class/dmi /sys/devices/virtual/dmi 2>/dev/null; true"), []);
  });

  test("virtio over memory-mapped registers, and no other transport", LIMIT, async () => {
    const devices = await lines("readlink -f /sys/bus/virtio/devices/*");
    assert.ok(devices.length >= 8, devices.join("\n"));
    for (const device of devices) assert.match(device, /^\/sys\/devices\/platform\//);
    assert.ok((await lines("ls /sys/bus/platform/drivers/virtio-mmio")).some((name) => /virtio|LNRO/.test(name)));
  });

  test("the kernel's command line turns cgroup v1 off and the serial console on, and holds no secret", LIMIT, async () => {
    const words = (await inside("cat /proc/cmdline")).split(" ");
    for (const expected of ["console=ttyS0", "panic=1", "cgroup_no_v1=all"]) assert.ok(words.includes(expected), expected);
    assert.ok(!words.some((word) => /token|secret|key/i.test(word)));
  });

  test("the processor says that a hypervisor is there", LIMIT, async () => {
    assert.match(await inside("grep -m1 ^flags /proc/cpuinfo"), / hypervisor( |$)/);
    assert.match(await inside("lscpu"), /^Hypervisor vendor: +(KVM|TCG)$|^Model name: +QEMU TCG CPU|^Virtualization type: +full$/m);
    assert.equal(await inside("nproc"), "2");
  });

  test("memory of its own, without limits inside; no swap", LIMIT, async () => {
    const totalKb = Number(/^MemTotal: +(\d+) kB/m.exec(await inside("cat /proc/meminfo"))?.[1]);
    assert.ok(totalKb > 900_000 && totalKb < 1_048_576, `${totalKb} kB`);
    assert.equal((await lines("cat /proc/swaps")).length, 1);
    assert.equal(await inside("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max"), "max\nmax 100000");
  });

  test("disks: the volume can be written, all others are read-only", LIMIT, async () => {
    const disks = await lines("lsblk --noheadings --nodeps --output NAME,RO --raw | grep ^vd");
    assert.deepEqual(disks, ["vda 1", "vdb 0", "vdc 1", "vdd 1", "vde 1", "vdf 1", "vdg 1"]);
    assert.equal(
      await inside("lsblk --noheadings --nodeps --output SIZE --raw /dev/vdb 2>/dev/null || cat /sys/block/vdb/size"),
      String(diskBytes(100) / 512),
    );
  });
});

describe("system", () => {
  test("Linux 6.12", LIMIT, async () => {
    assert.match(await inside("uname -sr"), /^Linux 6\.1[2-9]\./);
  });

  test("the root is an overlay of three read-only layers", LIMIT, async () => {
    const [type, options = ""] = (await inside("findmnt --noheadings --raw --output FSTYPE,OPTIONS /")).split(" ");
    assert.equal(type, "overlay");
    assert.equal(/lowerdir=([^,]+)/.exec(options)?.[1]?.split(":").length, 3);
    assert.match(options, /upperdir=[^,]*\/root-upper\/upper,workdir=[^,]*\/root-upper\/work(,|$)/);
  });

  test("container storage and /tmp are plain folders of the volume", LIMIT, async () => {
    for (const path of ["/var/lib/docker", "/var/lib/containers", "/home/sprite/.local/share/containers", "/tmp"]) {
      assert.equal(await inside(`findmnt --noheadings --raw --output FSTYPE ${path}`), "ext4", path);
    }
  });

  test("PID 1 is tini; an idle sprite shows three processes", LIMIT, async () => {
    assert.equal(await inside("tr '\\0' ' ' </proc/1/cmdline"), "/.pilot/tini -- tail -f /dev/null ");
    const processes = await lines("exec ps -e -o comm= --no-headers");
    assert.deepEqual(processes.sort(), ["ps", "tail", "tini"]);
    assert.deepEqual(await lines("ps -e -o user= | sort -u"), ["sprite"]);
  });

  test("no systemd", LIMIT, async () => {
    assert.equal((await shell(suite.sprite("box"), "command -v systemctl || ls /run/systemd")).code, 2);
    assert.doesNotMatch(await inside("ps -e -o comm="), /systemd|journald|dbus|cron/);
  });

  test("cgroup v2 only, and the sprite's own subtree", LIMIT, async () => {
    assert.deepEqual(await lines("findmnt --noheadings --raw --output FSTYPE --types cgroup,cgroup2"), ["cgroup2"]);
    assert.equal(await inside("cat /proc/self/cgroup"), "0::/");
    await inside("sudo mkdir /sys/fs/cgroup/probe && sudo rmdir /sys/fs/cgroup/probe");
  });

  test("root is a root of its own user namespace, wide enough for namespaces inside it", LIMIT, async () => {
    const [first, outer, count] = (await inside("cat /proc/self/uid_map")).trim().split(/ +/).map(Number);
    assert.equal(first, 0);
    assert.ok((outer ?? 0) > 0 && (count ?? 0) >= 10_000_000);
  });
});

describe("user", () => {
  test("sprite, with a home, zsh and sudo without a password", LIMIT, async () => {
    assert.equal(await inside("getent passwd sprite"), "sprite:x:1000:1000::/home/sprite:/bin/zsh");
    assert.equal(await inside("sudo -n id -un"), "root");
    assert.equal(await inside("touch ~/probe && stat -c %U ~/probe && rm ~/probe"), "sprite");
  });

  test("/.sprite/bin comes first in PATH, also in login shells", LIMIT, async () => {
    for (const shellCommand of ["echo $PATH", "bash -lc 'echo $PATH'", "zsh -lc 'echo $PATH'", "sudo sh -c 'echo $PATH'"]) {
      assert.match(await inside(shellCommand), /^\/\.sprite\/bin:/, shellCommand);
    }
  });

  test("languages and tools are there", { timeout: 120_000 }, async () => {
    const programs = "node npm python3 gcc g++ make git zsh curl wget jq tmux rg vim sudo podman buildah ssh rsync strace";
    assert.deepEqual(await lines(`for p in ${programs}; do command -v $p >/dev/null || echo $p; done`), []);
    await inside("node --version; python3 --version; git --version; printf 'int main(){return 0;}' | gcc -xc - -o /tmp/a && /tmp/a");
  });
});

describe("network", () => {
  test("spr0 is one end of a veth pair, with its addresses", LIMIT, async () => {
    const addresses = [...(await inside("ip -o addr show dev spr0")).matchAll(/inet6? [0-9a-f:./]+/g)].map(([address]) => address);
    assert.ok(addresses.includes("inet 10.0.0.1/24") && addresses.includes("inet6 fdf::1/64"), addresses.join(", "));
    assert.match(await inside("ip -o link show dev spr0"), /spr0@if\d+:/);
    assert.deepEqual(await lines("ls /sys/class/net | grep -vE '^(lo|spr0)$'; true"), []);
  });

  test("gateway and resolvers", LIMIT, async () => {
    assert.match(await inside("ip route show default"), /^default via 10\.0\.0\.2 dev spr0/);
    assert.match(await inside("ip -6 route show default"), /^default via fdf::2 dev spr0/);
    assert.deepEqual(await lines("grep ^nameserver /etc/resolv.conf"), ["nameserver 10.0.0.2", "nameserver fdf::2"]);
    assert.equal((await shell(suite.sprite("box"), "ping -c 1 -W 5 10.0.0.2")).code, 0);
  });

  test("the resolver on the gateway answers", LIMIT, async () => {
    assert.match(await inside("dig +time=10 +tries=1 @10.0.0.2 localhost. A; true"), /status: (NOERROR|NXDOMAIN|SERVFAIL|REFUSED)/);
  });

  test("host name", LIMIT, async () => {
    assert.equal(await inside("hostname"), "sprite");
    assert.match(await inside("getent hosts sprite"), /^(10\.0\.0\.1|fdf::1) /);
  });

  test("no metadata service on 169.254.169.254", LIMIT, async () => {
    const { code } = await shell(suite.sprite("box"), "curl --silent --max-time 5 http://169.254.169.254/");
    assert.equal(code, 7, "refused at once");
  });
});
