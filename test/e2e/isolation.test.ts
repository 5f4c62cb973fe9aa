import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { after, before, describe, test } from "node:test";
import { outputOf, rootShell, shell } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 60_000 };
const PILOT_PORT = 8080;

const suite = useDaemon({ sprites: ["box"] });
const box = () => suite.sprite("box");

/** Runs a script as the sprite's root, who must not succeed in what it tries. */
async function assertFails(script: string, complaint: RegExp): Promise<void> {
  const { code, stdout, stderr } = await rootShell(box(), script);
  assert.notEqual(code, 0, `${script}: it worked: ${stdout}`);
  assert.match(stdout + stderr, complaint, script);
}

describe("the platform's processes", () => {
  test("are not seen", LIMIT, async () => {
    const names = await outputOf(box(), "sudo sh -c 'cat /proc/[0-9]*/comm | sort -u'");
    assert.doesNotMatch(names, /node|pilot|hob|dnsmasq|crun|kthreadd|kworker/);
    const owners = await outputOf(box(), "sudo find /proc -maxdepth 1 -regex '/proc/[0-9]+' -uid 65534");
    assert.equal(owners, "", "processes of ids that are not the sprite's");
  });

  test("survive a root who ends everything; the sprite comes back by itself", LIMIT, async () => {
    await outputOf(box(), "echo kept | sudo tee /srv/kept");
    await shell(box(), "sudo kill -9 -1");
    await until("commands run again", async () => (await shell(box(), "true")).code === 0, 20_000);
    assert.equal(await outputOf(box(), "cat /srv/kept; tr '\\0' ' ' </proc/1/cmdline"), "kept\n/.pilot/tini -- tail -f /dev/null ");
    const ready = await suite.daemon.fetch("/v1/sprites/box/check");
    assert.equal(ready.status, 200);
  });

  test("cannot be reached through /proc of PID 1", LIMIT, async () => {
    assert.equal(await outputOf(box(), "sudo cat /proc/1/root/etc/hostname"), "sprite");
    assert.equal(await outputOf(box(), "sudo nsenter -t 1 -m cat /etc/hostname"), "sprite");
  });
});

describe("devices", () => {
  test("no disk has a node, and none can be made", LIMIT, async () => {
    assert.equal(await outputOf(box(), "ls /dev | grep -E '^(vd|nbd|dm|loop|sd|mem|kmem|port)'; true"), "");
    for (const number of ["b 254 16", "b 254 96", "c 1 1"]) {
      await assertFails(`mknod /tmp/probe ${number} && head -c 16 /tmp/probe`, /not permitted|denied/i);
    }
  });

  test("the boot configuration, with the host's secret, cannot be read or mounted", LIMIT, async () => {
    await assertFails("cat /dev/vdg", /No such file/);
    await assertFails("mount -t devtmpfs none /mnt", /permission denied|not permitted/i);
    await assertFails("mount /dev/vdb /mnt", /permission denied|not exist|special device/i);
    assert.equal(await outputOf(box(), "sudo grep -rlE 'pilotToken' /proc/cmdline /proc/1/environ /run /etc 2>/dev/null; true"), "");
  });

  test("the volume behind the root is not there as a whole", LIMIT, async () => {
    assert.equal(await outputOf(box(), "sudo ls -d /volume /layers /pilot /run/hob 2>/dev/null; true"), "");
  });
});

describe("the kernel", () => {
  test("takes no modules, no new kernel and no keys of the console", LIMIT, async () => {
    await assertFails(
      'python3 -c \'import ctypes; l=ctypes.CDLL(None,use_errno=True); r=l.syscall(175,b"x",1,b""); import os,sys; print(os.strerror(ctypes.get_errno())); sys.exit(r!=0)\'',
      /not permitted/,
    );
    await assertFails("echo b > /proc/sysrq-trigger", /denied|not permitted/i);
    await assertFails("dmesg", /not permitted/);
    await assertFails(
      "echo 0 > /sys/class/block/vda/queue/read_ahead_kb || echo 1 > /sys/power/state",
      /denied|Read-only|nonexistent|No such/i,
    );
  });

  test("keeps its settings", LIMIT, async () => {
    for (const name of ["kernel/core_pattern", "kernel/sysrq", "kernel/modprobe", "vm/overcommit_memory", "fs/file-max"]) {
      await assertFails(`echo 1 > /proc/sys/${name}`, /denied|not permitted|Read-only/i);
    }
    await assertFails(
      "mount -t debugfs none /mnt || mount -t tracefs none /mnt || mount -t bpf none /mnt && ls /mnt/progs.debug",
      /denied|not permitted|No such/i,
    );
  });

  test("does not give its clock to the sprite", LIMIT, async () => {
    await assertFails("date -s '2001-01-01'", /not permitted/i);
  });
});

describe("the network", () => {
  const servers: Server[] = [];
  const reached: string[] = [];
  const ports: number[] = [];
  before(async () => {
    for (const host of ["127.0.0.1", "0.0.0.0"]) {
      const server = createServer((socket) => {
        reached.push(`${host} from ${socket.remoteAddress} at ${socket.localAddress}`);
        socket.on("error", () => {}).end();
      });
      server.listen(0, host);
      await once(server, "listening");
      const address = server.address();
      ports.push(typeof address === "object" && address !== null ? address.port : 0);
      servers.push(server);
    }
  });
  after(() => {
    for (const server of servers) server.close();
  });

  /** Which of these servers, each ADDRESS:PORT, a client as root inside can open and read a line from. */
  const reachable = async (targets: readonly string[]): Promise<string[]> => {
    const tries = targets.map((target) => {
      const [address, port] = target.split(/:(?=\d+$)/);
      return `(timeout 4 bash -c 'exec 3<>/dev/tcp/${address}/${port} && echo ${target}' 2>/dev/null) &`;
    });
    const { stdout } = await rootShell(box(), `${tries.join(" ")} wait`);
    return stdout.split("\n").filter((line) => line !== "");
  };

  test("a server of the sprite itself is reached: the probe works", LIMIT, async () => {
    await outputOf(box(), "(nc -lk 8099 >/dev/null 2>&1 &); until nc -z 127.0.0.1 8099; do sleep 0.2; done");
    assert.deepEqual((await reachable(["127.0.0.1:8099", "10.0.0.1:8099"])).sort(), ["10.0.0.1:8099", "127.0.0.1:8099"]);
    await outputOf(box(), "pkill -x nc");
  });

  test("the pilot's port is closed", LIMIT, async () => {
    const addresses = ["10.9.0.2", "10.0.0.2", "10.9.0.1", "fdf::2"];
    assert.deepEqual(await reachable(addresses.map((address) => `${address}:${PILOT_PORT}`)), []);
  });

  test("no server of the host is reached, whether on its loopback or on all its addresses", LIMIT, async () => {
    const external = Object.values(networkInterfaces()).flatMap((one = []) =>
      one.filter(({ family, internal }) => family === "IPv4" && !internal),
    );
    const addresses = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.0.0.2", "127.0.0.1", ...external.map(({ address }) => address)];
    const daemonPort = Number(new URL(suite.daemon.url).port);
    const targets = addresses.flatMap((address) => [...ports, daemonPort].map((port) => `${address}:${port}`));
    assert.deepEqual(await reachable(targets), []);
    assert.deepEqual(reached, []);
  });

  test("an address of the uplink, taken inside, changes nothing", LIMIT, async () => {
    await rootShell(box(), "ip addr add 10.9.0.2/24 dev spr0");
    assert.deepEqual(await reachable([`10.9.0.1:${PILOT_PORT}`, ...ports.map((port) => `10.9.0.1:${port}`)]), []);
    await rootShell(box(), "ip addr del 10.9.0.2/24 dev spr0");
    assert.equal(await outputOf(box(), "echo fine"), "fine");
  });
});
