import assert from "node:assert/strict";
import { readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { ExecSpec } from "../src/helper/index.ts";
import { containerUnavailable, startContainer, type TestContainer } from "./support/container.ts";
import { collect, type RunningHelper, startHelper, waitFor } from "./support/helper.ts";

describe("processes in a container", { skip: containerUnavailable() ?? false }, () => {
  let helper: RunningHelper;
  let container: TestContainer;
  before(async () => {
    helper = await startHelper();
    container = await startContainer();
  });
  after(async () => {
    await container[Symbol.asyncDispose]();
    const reports = helper.stderr();
    await helper[Symbol.asyncDispose]();
    assert.equal(reports, "", "no sanitizer report");
  });

  const asUser = (...argv: string[]): ExecSpec => ({
    argv,
    env: { PATH: "/usr/bin:/bin", HOME: "/home/sprite" },
    cwd: "/home/sprite",
    uid: 1000,
    gid: 1000,
    user: "sprite",
    target: container.target,
  });
  const asRoot = (...argv: string[]): ExecSpec => ({ ...asUser(...argv), uid: 0, gid: 0, user: "root", cwd: "/" });
  const output = async (spec: ExecSpec) => (await collect(helper.client, spec)).stdout;

  test("every namespace is the container's", async () => {
    const list = ["user", "pid", "mnt", "net", "ipc", "uts"];
    const inside = (await output(asUser("readlink", ...list.map((name) => `/proc/self/ns/${name}`)))).trim().split("\n");
    const own = (
      await collect(helper.client, {
        ...asUser("readlink", ...list.map((name) => `/proc/self/ns/${name}`)),
        cwd: "/",
        target: { initPid: 0, cgroupDir: "", seccompFile: "" },
      })
    ).stdout
      .trim()
      .split("\n");
    assert.equal(inside.length, list.length);
    for (const [i, name] of list.entries()) assert.notEqual(inside[i], own[i], name);
    assert.equal(await output(asUser("hostname")), "sprite\n");
  });

  test("what the target confines counts for user and root, whatever the request says", async () => {
    const status = (spec: ExecSpec, more: object) => output({ ...spec, target: { ...container.target, ...more } });
    const show = ["grep", "-E", "CapBnd|CapEff|NoNewPrivs", "/proc/self/status"];
    const chown = await status(asRoot(...show), { boundingSet: 1n });
    assert.equal(chown, "CapEff:\t0000000000000001\nCapBnd:\t0000000000000001\nNoNewPrivs:\t0\n");
    const nothing = await status(asRoot(...show), { boundingSet: 0n, noNewPrivs: true });
    assert.equal(nothing, "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n");
    assert.match(await status(asUser(...show), { boundingSet: 1n << 63n }), /CapBnd:\t0{16}\n/);
    assert.match(await output(asUser(...show)), /CapBnd:\t0*1ff.*\nNoNewPrivs:\t0/);
  });

  test("the user, its groups from a hostile /etc/group, and no capability", async () => {
    assert.equal(await output(asUser("id", "-u")), "1000\n");
    assert.equal(await output(asUser("id", "-G")), "1000 27 28\n");
    assert.match(await output(asUser("grep", "CapEff", "/proc/self/status")), /CapEff:\t0{16}\n/);
    assert.match(await output(asUser("grep", "CapPrm", "/proc/self/status")), /CapPrm:\t0{16}\n/);
    assert.match(await output(asRoot("grep", "CapEff", "/proc/self/status")), /CapEff:\t0*1ff/);
    assert.match(await output(asUser("cat", "/proc/self/uid_map")), /0 +100000 +65536/);
  });

  test("a group file that is a FIFO, or a link into the kernel, blocks nobody", async () => {
    const file = join(container.root, "etc/group");
    const before = readFileSync(file);
    try {
      unlinkSync(file);
      await collect(helper.client, asRoot("mkfifo", "/etc/group"));
      assert.equal(await output(asUser("id", "-G")), "1000\n");
      rmSync(file);
      symlinkSync("/proc/self/mem", file);
      assert.equal(await output(asUser("id", "-G")), "1000\n");
    } finally {
      rmSync(file);
      writeFileSync(file, before);
    }
  });

  test("the seccomp filter that crun wrote is in force, without no_new_privs", async () => {
    const call = ["perl", "-e", "$r = syscall(103, 3, 0, 0); print $!+0, qq(\\n)"];
    assert.equal(await output(asUser(...call)), "95\n");
    assert.equal(await output(asRoot(...call)), "95\n");
    assert.match(await output(asUser("grep", "-E", "Seccomp:|NoNewPrivs", "/proc/self/status")), /NoNewPrivs:\t0\nSeccomp:\t2\n/);
    assert.match(
      await output({ ...asUser("grep", "-E", "Seccomp:|NoNewPrivs", "/proc/self/status"), noNewPrivs: true }),
      /NoNewPrivs:\t1\nSeccomp:\t2\n/,
    );
  });

  test("the cgroup is the one given, limits are those of PID 1", async () => {
    if (container.target.cgroupDir !== "") {
      const name = container.target.cgroupDir.split("/").at(-1) ?? "";
      assert.match(await output(asUser("cat", "/proc/self/cgroup")), new RegExp(`0::/${name}\n`));
    }
    assert.equal(await output(asUser("sh", "-c", "ulimit -Sn; ulimit -Hn")), "1000\n2000\n");
  });

  test("a terminal is of the container's devpts and belongs to the user", async () => {
    const tty = { cols: 80, rows: 24 };
    assert.equal(
      await output({ ...asUser("sh", "-c", "tty; stat -c %U:%a $(tty); stty size; echo direct > $(tty)"), tty }),
      "/dev/pts/0\r\nsprite:620\r\n24 80\r\ndirect\r\n",
    );
  });

  test("standard streams can be opened again by the user", async () => {
    assert.deepEqual(await collect(helper.client, asUser("sh", "-c", "echo a > /dev/stdout; echo b > /proc/self/fd/2")), {
      code: 0,
      stdout: "a\n",
      stderr: "b\n",
    });
  });

  test("a replaced /dev/ptmx is refused", async () => {
    await collect(helper.client, asRoot("mv", "/dev/ptmx", "/dev/ptmx.real"));
    await collect(helper.client, asRoot("mkfifo", "-m", "666", "/dev/ptmx"));
    await assert.rejects(helper.client.exec({ ...asUser("true"), tty: { cols: 1, rows: 1 } }), { code: "helper_failed" });
    await collect(helper.client, asRoot("mv", "/dev/ptmx.real", "/dev/ptmx"));
    assert.equal((await collect(helper.client, { ...asUser("true"), tty: { cols: 1, rows: 1 } })).code, 0);
  });

  test("nothing of the helper is visible or writable from inside", async () => {
    assert.equal((await collect(helper.client, { ...asRoot("x"), argv: ["x"], file: "/proc/self/exe" })).code, 2, "only its usage");
    const child = await helper.client.exec(asUser("sleep", "30"));
    child.start({ stdout: () => {}, stderr: () => {} });
    await waitFor(() => readFileSync(`/proc/${child.pid}/comm`, "utf8") === "sleep\n", "exec");
    assert.equal(readFileSync(`/proc/${child.pid}/oom_score_adj`, "utf8"), "0\n");
    child.signal(9);
    assert.deepEqual(await child.exited, { code: 137, containerGone: false });
  });

  test("errors of the setup name the step", async () => {
    const bad = (change: Partial<typeof container.target>) =>
      helper.client.exec({ ...asUser("true"), target: { ...container.target, ...change } });
    await assert.rejects(bad({ initPid: 4_000_000 }), { code: "helper_failed", message: /pidfd_open.*(No such process|Invalid argument)/ });
    await assert.rejects(bad({ cgroupDir: "/no/cgroup" }), { code: "helper_failed", message: /open cgroup \/no\/cgroup/ });
    await assert.rejects(bad({ seccompFile: "/etc/hostname" }), { code: "helper_failed", message: /read seccomp filter/ });
    await assert.rejects(helper.client.exec({ ...asUser("true"), uid: 70_000 }), {
      code: "helper_failed",
      message: /setresuid: Invalid argument/,
    });
  });

  test("the end of the container is told from the program's own", async () => {
    const child = await helper.client.exec(asUser("sleep", "30"));
    child.start({ stdout: () => {}, stderr: () => {} });
    container.stop();
    assert.deepEqual(await child.exited, { code: 137, containerGone: true });
    await assert.rejects(collect(helper.client, asUser("true")), { code: "helper_failed" });
  });
});
