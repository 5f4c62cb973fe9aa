import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Sprite } from "@fly/sprites";
import { covers } from "./support/covers.ts";
import { outputOf, rootShell, run, shell } from "./support/exec.ts";
import { TestDaemon } from "./support/test-daemon.ts";
import { until } from "./support/wait.ts";
import { World, worldUnavailable } from "./support/world.ts";

const LIMIT = { timeout: 120_000 };
const SET_UP_TIMEOUT_MS = 300_000;

/** Names and addresses behind the daemon's uplink. */
const RECORDS = { "good.test": "93.184.216.1", "bad.test": "93.184.216.2", "sub.good.test": "93.184.216.3", "inner.test": "192.168.77.7" };

/** A program that asks an allowed address again and again. */
const KNOCKING = `
import socket, time
while True:
  try:
    s = socket.create_connection(("${RECORDS["good.test"]}", 80), 1)
    s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    s.recv(100)
    s.close()
  except OSError:
    time.sleep(0.01)
`;

const cleanUp = new AsyncDisposableStack();
let daemon: TestDaemon;
let world: World | undefined;
const box = (): Sprite => daemon.sdk().sprite("box");

before(
  async () => {
    world = worldUnavailable() === undefined ? cleanUp.use(await World.start(RECORDS)) : undefined;
    daemon = cleanUp.use(await TestDaemon.start(world === undefined ? {} : { command: world.command, flags: world.flags }));
    await daemon.sdk().createSprite("box");
  },
  { timeout: SET_UP_TIMEOUT_MS },
);
after(() => cleanUp.disposeAsync(), LIMIT);

const status = async (): Promise<string> => ((await (await daemon.fetch("/v1/sprites/box")).json()) as { status: string }).status;
const fetchStatus = (url: string) => shell(box(), `curl -sS --max-time 20 ${url}`);
const lookUp = async (name: string) => (await shell(box(), `dig +tries=1 +time=10 ${name}`)).stdout;

describe("network", () => {
  test("denied names are refused, and addresses that no allowed name has are not reached", LIMIT, async () => {
    covers("GET /v1/sprites/{name}/policy/network", "POST /v1/sprites/{name}/policy/network");
    await box().updateNetworkPolicy({
      rules: [
        { domain: "GOOD.test", action: "allow" },
        { domain: "*", action: "deny" },
      ],
    });
    const policy = await box().getNetworkPolicy();
    assert.deepEqual(policy.rules, [
      { domain: "good.test", action: "allow" },
      { domain: "*", action: "deny" },
    ]);
    assert.match(await lookUp("bad.test"), /status: REFUSED/);
    assert.match(await lookUp("sub.good.test"), /status: REFUSED/);
    const raw = await fetchStatus(`http://${RECORDS["bad.test"]}/`);
    assert.equal(raw.code, 7, raw.stderr);
    assert.equal((await fetchStatus("http://bad.test/")).code, 6);
    assert.notEqual((await shell(box(), `dig +tries=1 +time=2 @10.9.0.3 bad.test`)).code, 0, "another resolver");
    assert.notEqual((await shell(box(), `ping -c 1 -W 2 ${RECORDS["bad.test"]}`)).code, 0);
  });

  test("an allowed name is reached", { skip: worldUnavailable() ?? false, ...LIMIT }, async () => {
    const { code, stdout, stderr } = await fetchStatus("http://good.test/");
    assert.equal(code, 0, stderr);
    assert.match(stdout, /hello from .*93\.184\.216\.1/);
  });

  test("the sprite sees its policy, and cannot change it, not even as root", LIMIT, async () => {
    const mirror = JSON.parse(await outputOf(box(), "cat /.sprite/policy/network.json"));
    assert.deepEqual(mirror, await box().getNetworkPolicy());
    const changed = await rootShell(box(), "mount -o remount,bind,rw /.sprite/policy; echo '{}' > /.sprite/policy/network.json");
    assert.notEqual(changed.code, 0);
    assert.deepEqual(JSON.parse(await outputOf(box(), "cat /.sprite/policy/network.json")), mirror);
  });

  test("the log tells what was decided", LIMIT, async () => {
    covers("GET /v1/sprites/{name}/policy/network/log");
    await until(
      "the decisions are in the log",
      async () => {
        const { code, stdout, stderr } = await daemon.hob("policy", "network", "log", "box", "--json");
        assert.equal(code, 0, stderr);
        const entries = stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line));
        const has = (wanted: object) => entries.some((entry) => Object.entries(wanted).every(([key, value]) => entry[key] === value));
        return (
          has({ type: "policy", count: 2 }) &&
          has({ type: "lookup", action: "deny", name: "bad.test", rule: "*" }) &&
          has({ type: "packet", action: "deny", protocol: "tcp", address: RECORDS["bad.test"], port: 80 })
        );
      },
      30_000,
    );
  });

  test("a policy that is not valid is told so and changes nothing", LIMIT, async () => {
    const before = await box().getNetworkPolicy();
    await assert.rejects(
      box().updateNetworkPolicy({ rules: [{ domain: "1.2.3.4", action: "allow" }] }),
      /Invalid policy: .*invalid policy: rules\.0\.domain/,
    );
    await assert.rejects(box().updateNetworkPolicy({ rules: [{ domain: "a\nb", action: "allow" }] }), /Invalid policy/);
    await assert.rejects(box().updateNetworkPolicy({ rules: [{ include: "defaults", domain: "a.test" }] }), /Invalid policy/);
    assert.deepEqual(await box().getNetworkPolicy(), before);
  });

  test("it outlives a bounce", LIMIT, async () => {
    assert.equal((await daemon.hob("bounce", "box")).code, 0);
    assert.match(await lookUp("bad.test"), /status: REFUSED/);
  });

  test("one that was changed while the sprite slept is there when it wakes, before anything runs", LIMIT, async () => {
    await lookUp("good.test");
    await outputOf(box(), `nohup python3 -c '${KNOCKING}' >/dev/null 2>&1 &`);
    if (world !== undefined) await until("the program gets through", async () => ((await world?.requests()) ?? 0) > 5, 30_000);
    assert.equal(await daemon.stop(), 0);
    await daemon.restart();
    assert.equal(await status(), "warm");
    const before = await world?.requests();
    await box().updateNetworkPolicy({ rules: [{ domain: "bad.test", action: "allow" }] });
    assert.equal(await status(), "warm", "it was not woken");
    assert.match(await lookUp("good.test"), /status: REFUSED/);
    assert.doesNotMatch(await lookUp("bad.test"), /status: REFUSED/);
    assert.equal(await outputOf(box(), "pgrep -fc 'create_connectio[n]'"), "1", "the program has woken too");
    assert.equal(await world?.requests(), before, "and has reached nothing since");
  });

  test("a start from the disk begins with all policies in force", LIMIT, async () => {
    await box().updatePrivilegesPolicy({ noNewPrivileges: true });
    await box().updateResourcesPolicy({ memory: { limitMB: 256 } });
    for (const { pid } of daemon.vmProcesses("qemu")) process.kill(pid, "SIGKILL");
    await until("the sprite is cold", async () => (await status()) === "cold");
    assert.match(await lookUp("good.test"), /status: REFUSED/);
    assert.match(await outputOf(box(), "cat /sys/fs/cgroup/memory.max /proc/self/status"), /^268435456\n.*NoNewPrivs:\t1/s);
    await box().deletePrivilegesPolicy();
    await box().deleteResourcesPolicy();
  });

  test("no rules lift it", LIMIT, async () => {
    assert.equal((await daemon.hob("policy", "network", "set", "box", "--unrestricted")).code, 0);
    assert.deepEqual((await box().getNetworkPolicy()).rules, []);
    assert.doesNotMatch(await lookUp("bad.test"), /status: REFUSED/);
  });
});

describe("resources", () => {
  const memoryMax = "/sys/fs/cgroup/memory.max";

  test("limits are in force at once, and the sprite's root cannot raise them", LIMIT, async () => {
    covers("GET /v1/sprites/{name}/policy/resources", "POST /v1/sprites/{name}/policy/resources");
    await box().updateResourcesPolicy({ memory: { limitMB: 192 } });
    assert.deepEqual(await box().getResourcesPolicy(), { memory: { limitMB: 192, autoscale: undefined } });
    assert.equal(await outputOf(box(), `cat ${memoryMax}`), String(192 * 1024 * 1024));
    assert.notEqual((await rootShell(box(), `echo max > ${memoryMax}`)).code, 0);
    assert.equal((await daemon.hob("policy", "resources", "set", "box", "--memory-mb", "192", "--cpus", "1.5")).code, 0);
    assert.equal(await outputOf(box(), "cat /sys/fs/cgroup/cpu.max"), "150000 100000");
  });

  test("a process that wants more memory is killed, and nothing of the platform", LIMIT, async () => {
    const pilot = async () => JSON.parse((await daemon.hob("bounce", "box", "--json")).stdout).pilotPid as number;
    const before = await pilot();
    assert.equal(await outputOf(box(), `cat ${memoryMax}`), String(192 * 1024 * 1024), "the new container has the limit");
    const hungry = await run(box(), "python3", ["-c", "x = bytearray(600 * 1024 * 1024)"]);
    assert.equal(hungry.code, 137, hungry.stderr);
    assert.equal(await outputOf(box(), "echo alive"), "alive");
    assert.equal(await pilot(), before);
  });

  test("lifted, they are gone", LIMIT, async () => {
    covers("DELETE /v1/sprites/{name}/policy/resources");
    await box().deleteResourcesPolicy();
    assert.deepEqual(await box().getResourcesPolicy(), { memory: undefined });
    assert.equal(await outputOf(box(), `cat ${memoryMax} /sys/fs/cgroup/cpu.max`), "max\nmax 100000");
  });
});

describe("privileges", () => {
  const bounding = "grep CapBnd /proc/self/status | cut -f2";

  test("without new privileges sudo gives nothing, at once", LIMIT, async () => {
    covers("GET /v1/sprites/{name}/policy/privileges", "POST /v1/sprites/{name}/policy/privileges");
    await box().updatePrivilegesPolicy({ noNewPrivileges: true });
    assert.deepEqual(await box().getPrivilegesPolicy(), { noNewPrivileges: true });
    const { code, stderr } = await run(box(), "sudo", ["true"]);
    assert.notEqual(code, 0);
    assert.match(stderr, /no new privileges/);
  });

  test("minimal takes capabilities at once, devices and namespaces with a bounce", LIMIT, async () => {
    await box().updatePrivilegesPolicy({ profile: "minimal", noNewPrivileges: true });
    assert.equal(await outputOf(box(), bounding), "0000000000000000");
    assert.equal((await daemon.hob("bounce", "box")).code, 0);
    assert.notEqual((await shell(box(), "test -e /dev/fuse")).code, 0);
    assert.notEqual((await shell(box(), "unshare --user true")).code, 0);
    assert.equal(await outputOf(box(), "python3 -c 'import threading; t = threading.Thread(target=print, args=[1]); t.start()'"), "1");
  });

  test("standard leaves sudo, without what only containers need", LIMIT, async () => {
    await box().updatePrivilegesPolicy({ profile: "standard" });
    assert.equal(await outputOf(box(), "sudo id -u"), "0");
    assert.notEqual((await rootShell(box(), "mount -t tmpfs none /mnt")).code, 0);
  });

  test("lifted, root is root again", LIMIT, async () => {
    covers("DELETE /v1/sprites/{name}/policy/privileges");
    await box().deletePrivilegesPolicy();
    assert.deepEqual(await box().getPrivilegesPolicy(), {});
    assert.equal((await daemon.hob("bounce", "box")).code, 0);
    assert.equal(await outputOf(box(), `sudo sh -c '${bounding}'`), "000001ffffffffff");
    assert.equal(await outputOf(box(), "test -e /dev/fuse && sudo mount -t tmpfs none /mnt && echo mounted"), "mounted");
  });
});
