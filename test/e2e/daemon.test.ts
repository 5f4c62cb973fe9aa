import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { globSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { ErrorBody, Sprite, SpriteList } from "@hob/protocol";
import { CacheCopy } from "./support/cache-copy.ts";
import { outputOf, shell } from "./support/exec.ts";
import { hobEnvironment, runHob } from "./support/hob.ts";
import { isAlive } from "./support/processes.ts";
import { daemonFor } from "./support/suite.ts";
import type { TestDaemon } from "./support/test-daemon.ts";
import { until } from "./support/wait.ts";

/** One VM at least is made in each test, and some boot one from its disk. */
const LIMIT = { timeout: 180_000 };

const box = (daemon: TestDaemon) => daemon.sdk().sprite("box");
const statusOf = async (daemon: TestDaemon) => ((await (await daemon.fetch("/v1/sprites/box")).json()) as Sprite).status;

/** Starts a process that goes on when its exec has ended. @returns its pid inside */
const leaveRunning = (daemon: TestDaemon): Promise<string> =>
  outputOf(box(daemon), "setsid sleep 9999 >/dev/null 2>&1 </dev/null & echo $!");

/** Of the only VM. */
function pilotPortOf({ runtimeDirectory }: TestDaemon): number {
  const [record = ""] = globSync(join(runtimeDirectory, "*/vm.json"));
  return (JSON.parse(readFileSync(record, "utf8")) as { pilotPort: number }).pilotPort;
}

/** Established TCP connections from this host to one of its ports, proc_net_tcp(5). */
const connectionsTo = (port: number): number =>
  readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .filter((line) => new RegExp(`^ *\\d+: \\S+ \\S+:${port.toString(16).toUpperCase().padStart(4, "0")} 01 `).test(line)).length;

describe("an end and a new start", () => {
  test("SIGTERM saves the VMs: later the sprite goes on where it was, at the right time", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    await daemon.sdk().createSprite("box");
    const pid = await leaveRunning(daemon);
    await outputOf(box(daemon), "echo in memory > /dev/shm/note; echo on disk > ~/note");
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(daemon.vmProcesses(), []);
    await daemon.restart();
    assert.equal(await statusOf(daemon), "warm");
    assert.equal(
      await outputOf(box(daemon), `tr '\\0' ' ' </proc/${pid}/cmdline; cat /dev/shm/note ~/note`),
      "sleep 9999 in memory\non disk",
    );
    assert.equal(await statusOf(daemon), "running");
    const difference = Number(await outputOf(box(daemon), "date +%s%3N")) - Date.now();
    assert.ok(Math.abs(difference) < 2_000, `the clock is ${difference} ms off`);
  });

  test("SIGTERM cuts running commands; none of them looks like a success", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    await daemon.sdk().createSprite("box");
    const running = shell(box(daemon), "sleep 9999").then(
      ({ code }) => code,
      () => "refused",
    );
    await until("it runs", async () => (await shell(box(daemon), "pgrep -x sleep")).code === 0);
    assert.equal(await daemon.stop(), 0);
    assert.notEqual(await running, 0);
  });

  test("kill -9: the next daemon finds the VM running and goes on with it", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    await daemon.sdk().createSprite("box");
    const pid = await leaveRunning(daemon);
    const [before] = daemon.vmProcesses("qemu");
    await daemon.kill9();
    assert.ok(before !== undefined && isAlive(before.pid), "the VM outlives its daemon");
    await daemon.restart();
    assert.equal(await statusOf(daemon), "running");
    assert.equal(await outputOf(box(daemon), `tr '\\0' ' ' </proc/${pid}/cmdline`), "sleep 9999 ");
    assert.deepEqual(
      daemon.vmProcesses("qemu").map((found) => found.pid),
      [before.pid],
    );
    await daemon.sdk().deleteSprite("box");
    assert.deepEqual(daemon.vmProcesses(), []);
  });

  test("kill -9 while the store is away: the VM goes on, and what it wrote is in the store when that is back", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    await daemon.sdk().createSprite("box");
    const pid = await leaveRunning(daemon);
    const [before] = daemon.vmProcesses("qemu");
    await daemon.kill9();
    const store = join(daemon.home, "store");
    renameSync(store, `${store}-away`);
    await daemon.restart();
    const health = async () => ((await (await daemon.fetch("/healthz")).json()) as { store: string }).store;
    assert.deepEqual([await health(), await statusOf(daemon)], ["unavailable", "running"]);
    const written = "echo without the store | sudo tee /srv/note && sync";
    assert.equal(await outputOf(box(daemon), `tr '\\0' ' ' </proc/${pid}/cmdline; ${written}`), "sleep 9999 without the store");
    assert.deepEqual(
      daemon.vmProcesses("qemu").map((found) => found.pid),
      [before?.pid],
    );
    renameSync(`${store}-away`, store);
    await until("the daemon has found it", async () => (await health()) === "ok", 60_000);
    await until("all is in the store", async () => (await daemon.fetch("/v1/sprites/box/sync", { method: "POST" })).status === 200, 60_000);
  });

  test("kill -9 of daemon and VMM: the next daemon starts the sprite from its disk", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    await daemon.sdk().createSprite("box");
    await outputOf(box(daemon), "echo kept | sudo tee /srv/note && sync");
    await daemon.kill9();
    for (const { pid } of daemon.vmProcesses()) process.kill(pid, "SIGKILL");
    await daemon.restart();
    assert.equal(await statusOf(daemon), "cold");
    assert.equal(await outputOf(box(daemon), "cat /srv/note"), "kept");
  });

  test("stopped while a template is being booted, it leaves nothing of it", LIMIT, async (t) => {
    const cache = new CacheCopy();
    const daemon = await daemonFor(t, { env: cache.env }, () => cache[Symbol.dispose]());
    await until("the template boots", () => daemon.vmProcesses("qemu").length === 1);
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(daemon.vmProcesses(), []);
    assert.deepEqual(readdirSync(join(cache.directory, "templates")), []);
  });

  test("killed while a template is being booted, the next daemon removes it and boots another", LIMIT, async (t) => {
    const cache = new CacheCopy();
    const daemon = await daemonFor(t, { env: cache.env }, () => cache[Symbol.dispose]());
    await until("the template boots", () => daemon.vmProcesses("qemu").length === 1);
    const [abandoned] = daemon.vmProcesses("qemu");
    await daemon.kill9();
    await daemon.restart();
    assert.ok(abandoned !== undefined && !isAlive(abandoned.pid));
    await daemon.sdk().createSprite("box");
    assert.equal(await outputOf(box(daemon), "echo up"), "up");
    assert.deepEqual(
      readdirSync(join(cache.directory, "templates")).filter((name) => name.startsWith(".")),
      [],
    );
  });
});

test("a VMM that is killed: the next command starts the sprite from its disk, with what was synced", LIMIT, async (t) => {
  const daemon = await daemonFor(t);
  await daemon.sdk().createSprite("box");
  await outputOf(box(daemon), "echo root | sudo tee /srv/note; echo home > ~/note; sync");
  const machineId = await outputOf(box(daemon), "cat /etc/machine-id");
  const [vmm] = daemon.vmProcesses("qemu");
  assert.ok(vmm);
  const running = shell(box(daemon), "sleep 9999").then(
    ({ code }) => code,
    () => "cut",
  );
  await until("a command runs", async () => (await shell(box(daemon), "pgrep -x sleep")).code === 0);
  process.kill(vmm.pid, "SIGKILL");
  assert.notEqual(await running, 0, "a command that was cut is no success");
  await until("it is noticed", async () => (await statusOf(daemon)) === "cold");
  await until("its folder of sockets is gone", () => readdirSync(daemon.runtimeDirectory).length === 0);
  assert.equal(await outputOf(box(daemon), "cat /srv/note ~/note"), "root\nhome");
  assert.equal(await outputOf(box(daemon), "cat /etc/machine-id"), machineId);
  assert.equal(daemon.vmProcesses("qemu").length, 1);
  assert.equal(daemon.vmProcesses("passt").length, 1);
});

test("a VMM that is killed with a request: that is not done in the next boot, and the client hears of it", LIMIT, async (t) => {
  const daemon = await daemonFor(t);
  await daemon.sdk().createSprite("box");
  const [vmm] = daemon.vmProcesses("qemu");
  assert.ok(vmm);
  // A VM that stands still takes no request, and does not say so: nobody can tell.
  process.kill(vmm.pid, "SIGSTOP");
  const before = connectionsTo(pilotPortOf(daemon));
  const query = "cmd=touch&cmd=/home/sprite/was-here";
  const answer = daemon.fetch(`/v1/sprites/box/exec?${query}`, { method: "POST" });
  await until("it is sent", () => connectionsTo(pilotPortOf(daemon)) > before);
  process.kill(vmm.pid, "SIGKILL");
  const response = await answer;
  const { error, hint } = (await response.json()) as ErrorBody;
  assert.deepEqual([response.status, error, typeof hint], [502, "outcome_unknown", "string"]);
  assert.equal(await statusOf(daemon), "cold", "it is not started for it");
  assert.equal(await outputOf(box(daemon), "ls /home/sprite | grep -c was-here || true"), "0");
});

test("destroy leaves nothing: no process, no file, no socket", LIMIT, async (t) => {
  const daemon = await daemonFor(t);
  await daemon.sdk().createSprite("box");
  assert.deepEqual([daemon.vmProcesses("qemu").length, daemon.vmProcesses("passt").length], [1, 1]);
  assert.equal((await daemon.hob("destroy", "--force", "box")).code, 0);
  assert.deepEqual(daemon.vmProcesses(), []);
  assert.deepEqual(daemon.spriteFolders(), []);
  assert.deepEqual(readdirSync(daemon.runtimeDirectory), []);
});

describe("a start that cannot be", () => {
  test("two daemons on one home: the second says who has it", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    const second = await runHob(["serve", "--listen", "127.0.0.1:0"], daemon.env);
    assert.equal(second.code, 1);
    assert.match(second.stderr, new RegExp(`the daemon with pid ${daemon.pid} uses this directory\nhint: stop that daemon`));
    assert.equal((await daemon.fetch("/healthz")).status, 200, "the first goes on");
  });

  test("a taken port: it says so, and leaves nothing", LIMIT, async (t) => {
    const daemon = await daemonFor(t);
    const home = mkdtempSync(join(tmpdir(), "hob-e2e-"));
    t.after(() => rmSync(home, { recursive: true, force: true }));
    const second = await runHob(["serve", "--listen", new URL(daemon.url).host], hobEnvironment(home));
    assert.equal(second.code, 1);
    assert.match(second.stderr, /listen on 127\.0\.0\.1:\d+: EADDRINUSE\nhint: /);
    assert.doesNotMatch(second.stderr, / at .*\.ts:\d+/, "no stack trace");
  });
});

test("20 creates at once where 2 have room: 2 are made, 18 are told why not, nothing leaks", LIMIT, async (t) => {
  const daemon = await daemonFor(t, { flags: ["--max-running", "2"] });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => daemon.create({ name: `box-${i}` })));
  const bodies = (await Promise.all(answers.map((answer) => answer.json()))) as ErrorBody[];
  assert.deepEqual(answers.map(({ status }) => status).sort(), [...Array(2).fill(201), ...Array(18).fill(429)]);
  const refused = answers.findIndex(({ status }) => status === 429);
  const { error, message, limit, current_count, retry_after_seconds } = bodies[refused] ?? assert.fail("none was refused");
  assert.deepEqual([error, limit, current_count], ["concurrent_sprite_limit_exceeded", 2, 2]);
  assert.ok(String(message).length > 10 && Number(retry_after_seconds) > 0);
  assert.equal(answers[refused]?.headers.get("retry-after"), String(retry_after_seconds));
  const { sprites } = (await (await daemon.fetch("/v1/sprites")).json()) as SpriteList;
  assert.deepEqual(
    sprites.map(({ status }) => status),
    ["running", "running"],
  );
  assert.deepEqual([daemon.vmProcesses("qemu").length, daemon.vmProcesses("passt").length, daemon.spriteFolders().length], [2, 2, 2]);
  assert.equal(readdirSync(daemon.runtimeDirectory).length, 2);
  await daemon.sdk().deleteSprite(sprites[0]?.name ?? "");
  assert.equal((await daemon.create({ name: "next" })).status, 201, "the room is free again");
});

const skipWithoutRoot = process.getuid?.() === 0 ? {} : { skip: "mounting a small disk needs root" };
test("a create on a disk that is too small: 507, and nothing is left", { ...LIMIT, ...skipWithoutRoot }, async (t) => {
  const home = mkdtempSync(join(tmpdir(), "hob-e2e-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=40m", "none", home]);
  const daemon = await daemonFor(t, { home }, () => {
    execFileSync("umount", [home]);
    rmSync(home, { recursive: true });
  });
  const answer = await daemon.create({ name: "box" });
  const body = (await answer.json()) as ErrorBody;
  assert.deepEqual([answer.status, body.error], [507, "no_space"], JSON.stringify(body));
  assert.match(body.message, /full|no space/i);
  assert.deepEqual(daemon.vmProcesses(), []);
  assert.deepEqual(daemon.spriteFolders(), []);
  assert.deepEqual(((await (await daemon.fetch("/v1/sprites")).json()) as SpriteList).sprites, []);
});
