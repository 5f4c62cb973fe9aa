import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { buildHelper, type RunningHelper, startHelper, waitFor } from "./support/helper.ts";

const isRoot = process.getuid?.() === 0;
const CGROUPS = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].find((path) => existsSync(join(path, "cgroup.controllers"))) ?? "";

describe("system requests of the helper", { skip: isRoot ? false : "needs root" }, () => {
  let helper: RunningHelper;
  let directory: string;
  before(async () => {
    helper = await startHelper();
    directory = mkdtempSync(join(tmpdir(), "hob-system-"));
  });
  after(async () => {
    const reports = helper.stderr();
    await helper[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
    assert.equal(reports, "", "no sanitizer report");
  });

  test("entropy, time and sync", async () => {
    await helper.client.addEntropy(Buffer.alloc(64, 7));
    await assert.rejects(helper.client.addEntropy(Buffer.alloc(0)), { code: "invalid_request" });
    await helper.client.setTime(Date.now());
    await assert.rejects(helper.client.setTime(0), { code: "helper_failed" });
    await helper.client.sync();
  });

  test("only the helper's own user may connect", () => {
    assert.equal(statSync(helper.socketPath).mode & 0o777, 0o600);
  });

  test("the socket goes with the server, and a stale one is replaced", async () => {
    await using first = await startHelper();
    const second = spawn(buildHelper(), ["serve", first.socketPath], { stdio: "ignore" });
    await sleep(300);
    await first.client.sync();
    const ended = once(second, "exit");
    second.kill("SIGTERM");
    await ended;
    assert.equal(existsSync(first.socketPath), false);
  });

  test("a frozen file system stops writers until the thaw, the end of the lease, or of the connection", async (t) => {
    const image = join(directory, "fs.img");
    const target = join(directory, "fs");
    mkdirSync(target);
    execFileSync("truncate", ["-s", "16M", image]);
    execFileSync("mkfs.ext4", ["-q", image], { stdio: "ignore" });
    try {
      execFileSync("mount", ["-o", "loop", image, target], { stdio: "pipe" });
    } catch {
      return t.skip("no loop device");
    }
    try {
      const writer = () => {
        const child = spawn("sh", ["-c", `echo x > ${join(target, "file")}`], { stdio: "ignore" });
        return { child, ended: once(child, "exit") };
      };
      const frozen = await helper.client.freeze(target);
      const first = writer();
      assert.equal(await Promise.race([first.ended.then(() => "written"), sleep(200).then(() => "blocked")]), "blocked");
      await frozen.thaw();
      await first.ended;
      const lease = await helper.client.freeze(target, 200);
      await writer().ended;
      await assert.rejects(lease.thaw(), { code: "helper_failed", details: { errno: 110 } });
      await assert.rejects(helper.client.thaw(target), { code: "helper_failed", details: { errno: 22 } });
      const script = `import { HelperClient } from ${JSON.stringify(new URL("../src/helper/index.ts", import.meta.url).href)};
        await new HelperClient(${JSON.stringify(helper.socketPath)}).freeze(${JSON.stringify(target)}); process.kill(process.pid, "SIGKILL");`;
      await once(spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "inherit" }), "exit");
      await writer().ended;
    } finally {
      execFileSync("umount", [target]);
    }
  });

  test("a read-only layer is mounted with its ids shifted", async (t) => {
    const source = join(directory, "layer");
    mkdirSync(source);
    writeFileSync(join(source, "file"), "content");
    execFileSync("chown", ["1000:1000", join(source, "file")]);
    const image = join(directory, "layer.erofs");
    try {
      execFileSync("mkfs.erofs", [image, source], { stdio: "ignore" });
    } catch {
      return t.skip("needs mkfs.erofs");
    }
    const target = join(directory, "mounted");
    mkdirSync(target);
    const loop = execFileSync("losetup", ["-f", "--show", "-r", image], { encoding: "utf8" }).trim();
    try {
      const idmap = { base: 100_000, count: 65_536 };
      await helper.client.idmapMount({ fsType: "erofs", source: loop, target, attributes: ["ro", "nodev"], idmap });
      assert.equal(statSync(join(target, "file")).uid, 101_000);
      assert.equal(statSync(target).uid, 100_000);
      assert.throws(() => writeFileSync(join(target, "new"), ""), { code: "EROFS" });
      execFileSync("umount", [target]);
      await helper.client.idmapMount({ fsType: "bind", source, target, idmap });
      assert.equal(statSync(join(target, "file")).uid, 101_000);
      execFileSync("umount", [target]);
      await assert.rejects(helper.client.idmapMount({ fsType: "erofs", source: "/dev/null", target }), {
        code: "helper_failed",
        message: /\/dev\/null/,
      });
      await assert.rejects(helper.client.idmapMount({ fsType: "no-such-fs", source: "x", target }), { message: /fsopen no-such-fs/ });
    } finally {
      execFileSync("losetup", ["-d", loop]);
    }
  });

  test("a cgroup is killed and empty afterwards", { skip: CGROUPS === "" ? "needs cgroup2" : false }, async () => {
    const cgroup = join(CGROUPS, `hob-kill-${process.pid}`);
    mkdirSync(cgroup);
    try {
      const child = await helper.client.exec({
        argv: ["sh", "-c", "trap '' TERM HUP; sleep 60 & wait"],
        env: { PATH: "/usr/bin:/bin" },
        cwd: "/",
        uid: 0,
        gid: 0,
        target: { initPid: 0, cgroupDir: cgroup, seccompFile: "" },
      });
      child.start({ stdout: () => {}, stderr: () => {} });
      await helper.client.killCgroup(cgroup);
      assert.equal((await child.exited).code, 137);
    } finally {
      rmdirSync(cgroup);
    }
    await helper.client.killCgroup(cgroup);
  });
});

describe("the network request", { skip: isRoot ? false : "needs root" }, () => {
  test("sets up both ends in one go, again over an old one, and nothing when it fails", async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "hob-network-"));
    const socketPath = join(directory, "s");
    const spawned: ChildProcess[] = [];
    const start = (...argv: [string, ...string[]]) => {
      const child = spawn(argv[0], argv.slice(1), {
        stdio: ["ignore", "pipe", "inherit"],
        env: { ...process.env, ASAN_OPTIONS: "detect_leaks=0" },
      });
      spawned.push(child);
      return child;
    };
    t.after(() => {
      for (const child of spawned) child.kill("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    });
    // The helper's own "root namespace" is a fresh one, so the machine's network stays as it is.
    const serve = start("unshare", "-n", buildHelper(), "serve", socketPath);
    await waitFor(() => existsSync(socketPath), "socket");
    const { HelperClient } = await import("../src/helper/index.ts");
    const client = new HelperClient(socketPath);
    const inner = start("unshare", "-n", "sleep", "60");
    await waitFor(() => netns(inner.pid) !== netns(process.pid), "namespace");
    const spec = {
      outer: { name: "spr0h", addresses: ["10.0.0.2/24", "fdf::2/64"] },
      inner: { name: "spr0", addresses: ["10.0.0.1/24", "fdf::1/64"] },
      gateways: ["10.0.0.2", "fdf::2"],
      innerPid: inner.pid ?? 0,
      mtu: 1400,
    };
    await client.setUpNetwork(spec);
    const again = start("unshare", "-n", "sleep", "60");
    await waitFor(() => netns(again.pid) !== netns(process.pid), "namespace");
    const begun = performance.now();
    await client.setUpNetwork({ ...spec, innerPid: again.pid ?? 0 });
    t.diagnostic(`network set up in ${(performance.now() - begun).toFixed(1)} ms`);

    const ip = (pid: number | undefined, ...args: string[]) =>
      execFileSync("nsenter", ["-t", String(pid), "-n", "ip", ...args], { encoding: "utf8" });
    assert.doesNotMatch(ip(inner.pid, "link"), /spr0/);
    const addresses = ip(again.pid, "addr");
    assert.match(addresses, /spr0@.*mtu 1400[\s\S]*inet 10\.0\.0\.1\/24[\s\S]*inet6 fdf::1\/64 scope global nodad/);
    assert.match(addresses, /lo: <LOOPBACK,UP/);
    assert.doesNotMatch(addresses, /fdf::1.*tentative/);
    assert.match(ip(again.pid, "route"), /default via 10\.0\.0\.2 dev spr0/);
    assert.match(ip(again.pid, "-6", "route"), /default via fdf::2 dev spr0/);
    assert.match(ip(serve.pid, "addr"), /spr0h@[\s\S]*inet 10\.0\.0\.2\/24[\s\S]*inet6 fdf::2\/64/);
    ping(again.pid, "10.0.0.2");
    ping(again.pid, "fdf::2");

    const broken = {
      ...spec,
      innerPid: again.pid ?? 0,
      outer: { ...spec.outer, name: "other0" },
      inner: { ...spec.inner, name: "other1" },
      gateways: ["192.0.2.1"],
    };
    await assert.rejects(client.setUpNetwork(broken), { code: "helper_failed", message: /network other0: add the default routes/ });
    assert.doesNotMatch(ip(serve.pid, "link"), /other0/);
    assert.match(ip(serve.pid, "link"), /spr0h/);
    await assert.rejects(client.setUpNetwork({ ...spec, innerPid: 4_000_000 }), { code: "helper_failed" });
  });
});

function netns(pid: number | undefined): number {
  return statSync(`/proc/${pid}/ns/net`).ino;
}

/** TCP connect to a closed port: refused means that packets went both ways. */
function ping(pid: number | undefined, address: string): void {
  const script = `require("net").connect(9, ${JSON.stringify(address)}).on("error", (e) => process.exit(e.code === "ECONNREFUSED" ? 0 : 1))`;
  execFileSync("nsenter", ["-t", String(pid), "-n", process.execPath, "-e", script], { timeout: 5_000 });
}

describe("init", { skip: isRoot ? false : "needs root" }, () => {
  test("restarts what dies, reaps orphans, and powers off after the pilot has ended", async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "hob-init-"));
    const log = join(directory, "log");
    // The pilot: leaves an orphan, notes its start; the first one fails; SIGTERM ends it with a note.
    const pilot = `trap 'echo stop >>${log}; exit 0' TERM; (sleep 0.1 &) ; echo start >>${log}; [ -e ${log}.1 ] || { : >${log}.1; exit 3; }; while :; do sleep 0.05; done`;
    const mounts = 'mount -t tmpfs tmpfs /run && exec "$0" init sh -c "$1"';
    const child = spawn("unshare", ["-m", "-p", "-f", "--mount-proc", "--kill-child", "sh", "-c", mounts, buildHelper(), pilot], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ASAN_OPTIONS: "detect_leaks=0" },
    });
    t.after(() => {
      child.kill("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    });
    let stderr = "";
    child.stderr?.on("data", (chunk) => (stderr += chunk));
    await waitFor(() => existsSync(log) && execFileSync("cat", [log], { encoding: "utf8" }) === "start\nstart\n", "second start");
    assert.match(stderr, /hob-init: the pilot exited with status 3, restart in 100 ms/);
    const initPid = Number(execFileSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" }));
    const comms = () => execFileSync("ps", ["--ppid", String(initPid), "-o", "stat=,comm="], { encoding: "utf8" });
    await waitFor(() => !comms().includes("Z"), "reaped orphans");
    assert.match(comms(), /hob-helper/);
    const ended = once(child, "exit");
    process.kill(initPid, "SIGUSR2");
    await ended;
    assert.equal(execFileSync("cat", [log], { encoding: "utf8" }), "start\nstart\nstop\n");
  });
});
