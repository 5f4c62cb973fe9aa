import assert from "node:assert/strict";
import { open, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Checkpoint, Sprite, SpriteActivity } from "@hob/protocol";
import { covers } from "./support/covers.ts";
import { outputOf, start } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

/** Short, but long enough that what a test does at once is done within it on a slow machine too. */
const IDLE_SECONDS = 4;
const LIMIT = { timeout: 120_000 };
/** A save has to be waited for as well. */
const ASLEEP_MS = 60_000;

const suite = useDaemon({ flags: ["--idle-timeout", `${IDLE_SECONDS}s`], sprites: ["box"] });
const box = () => suite.sprite("box");
const get = async <T>(path: string) => (await (await suite.daemon.fetch(path)).json()) as T;
const statusOf = async () => (await get<Sprite>("/v1/sprites/box")).status;
const activity = () => get<SpriteActivity>("/v1/sprites/box/activity");
const isAsleep = () => until("it sleeps", async () => (await statusOf()) === "warm", ASLEEP_MS);

describe("a sprite that nobody uses", () => {
  test("sleeps, and an exec wakes it: same process, same memory, the right time", LIMIT, async () => {
    covers("GET /v1/sprites/{name}/activity");
    const pid = await outputOf(box(), "setsid sleep 9999 >/dev/null 2>&1 </dev/null & echo $!");
    await outputOf(box(), "echo in memory > /dev/shm/note");
    const awake = await activity();
    assert.deepEqual([awake.status, awake.idle_timeout_seconds], ["running", IDLE_SECONDS]);
    await isAsleep();
    assert.deepEqual(suite.daemon.vmProcesses(), [], "no process of it is left");
    const asleep = await activity();
    assert.ok(asleep.cold_at !== null && asleep.sleeps_at === null);
    assert.equal(await outputOf(box(), `tr '\\0' ' ' </proc/${pid}/cmdline; cat /dev/shm/note`), "sleep 9999 in memory");
    const difference = Number(await outputOf(box(), "date +%s%3N")) - Date.now();
    assert.ok(Math.abs(difference) < 2_000, `the clock is ${difference} ms off`);
    const { last_wake } = await activity();
    assert.equal(last_wake?.reason, "GET /exec");
  });

  test("does not sleep while a command is attached, and says so; then it does", LIMIT, async () => {
    const cat = await start(box(), "cat");
    const { holders, sleeps_at } = await activity();
    assert.deepEqual([holders[0]?.kind, sleeps_at], ["exec", null]);
    const refused = await suite.daemon.hob("sleep", "box");
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /in use by exec/);
    await new Promise((resolve) => setTimeout(resolve, (IDLE_SECONDS + 3) * 1_000));
    assert.equal(await statusOf(), "running");
    cat.command.stdin.end("still there\n");
    assert.equal(await cat.exited, 0);
    assert.equal(cat.stdout().toString(), "still there\n");
    await isAsleep();
  });

  test("many at once wake it once, and none of them is lost", LIMIT, async () => {
    await isAsleep();
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => outputOf(box(), `echo ${i}`)));
    assert.deepEqual(answers, ["0", "1", "2", "3", "4", "5"]);
    assert.equal(suite.daemon.vmProcesses("qemu").length, 1);
  });

  test("requests all around its sleep are all answered", LIMIT, async () => {
    for (let round = 0; round < 4; round++) {
      const sleeping = suite.daemon.fetch("/v1/sprites/box/sleep", { method: "POST" });
      const answers = await Promise.all([outputOf(box(), "echo a"), sleeping, outputOf(box(), "echo b")]);
      assert.deepEqual([answers[0], answers[2]], ["a", "b"]);
      assert.ok([200, 409].includes(answers[1].status));
    }
  });
});

describe("what was changed before a sleep", () => {
  const automatic = async () => {
    const listed = await get<Checkpoint[]>("/v1/sprites/box/checkpoints?includeAuto=true");
    return listed.filter(({ reason }) => reason === "sleep").map(({ id }) => id);
  };
  const durable = async () => {
    const { id } = await get<Sprite>("/v1/sprites/box");
    const head = await readFile(join(suite.daemon.home, `store/orgs/hob/sprites/${id}/head.json`), "utf8");
    return (JSON.parse(head) as { checkpoints: { id: string }[] }).checkpoints.map((one) => one.id);
  };
  /** while it is awake: nothing is brought into the store of one that sleeps */
  const becomesDurable = (id: string) => {
    const isDurable = async () => (await automatic()).length > 0 && (await durable()).includes(id);
    return until(`${id} is in the store`, isDurable, ASLEEP_MS);
  };
  const sleep = async (...flags: string[]) => {
    const slept = await suite.daemon.hob("sleep", "box", ...flags);
    assert.deepEqual([slept.code, slept.stdout], [0, "box is warm\n"], slept.stderr);
  };

  test("is in an automatic checkpoint and in the object store; without a change there is none", LIMIT, async () => {
    // Read as well: the first time after a change, the time of that is written (relatime, mount(8)).
    await outputOf(box(), "echo changed > ~/changed; cat ~/changed");
    await sleep();
    // A store that is slow, as on a machine that is busy, keeps no sprite awake: then that is told, and goes on after the wake.
    const { behind } = await activity();
    const stored = await durable();
    const [newest = "", ...others] = await automatic();
    assert.ok(behind !== null || stored.includes(newest), `${newest} is in the store: ${stored}`);
    await becomesDurable(newest);
    const content = await suite.daemon.fetch(`/v1/sprites/box/checkpoints/${newest}/content?path=/home/sprite/changed`);
    assert.equal(await content.text(), "changed\n");
    for (const use of ["true", "ls -lR /etc >/dev/null 2>&1; cat ~/changed"]) {
      await sleep();
      await outputOf(box(), use);
    }
    await sleep();
    assert.deepEqual(await automatic(), [newest, ...others], "nothing was changed");
    await outputOf(box(), "echo again > ~/changed");
    await sleep("--force");
    const last = (await automatic())[0] ?? "";
    assert.notEqual(last, newest, "by force likewise");
    await becomesDurable(last);
  });
});

describe("on request", () => {
  test("hob sleep, hob info, and a wake by hob exec", LIMIT, async () => {
    covers("POST /v1/sprites/{name}/sleep");
    const { daemon } = suite;
    await outputOf(box(), "echo kept > ~/note");
    const slept = await daemon.hob("sleep", "box");
    assert.deepEqual([slept.code, slept.stdout], [0, "box is warm\n"], slept.stderr);
    const info = await daemon.hob("info", "box");
    assert.match(info.stdout, /^status +warm$/m);
    assert.match(info.stdout, /^memory kept +until /m);
    assert.equal((await daemon.hob("exec", "box", "--", "cat", "note")).stdout, "kept\n");
    assert.match((await daemon.hob("info", "box")).stdout, /^last wake +.*GET \/exec/m);
  });

  test("by force under a running command: the client is cut, the command goes on after the wake", LIMIT, async () => {
    const running = await start(box(), "sh", ["-c", "echo $$; sleep 9999"], {});
    await until("it runs", () => running.stdout().length > 0);
    const ended = running.exited.catch(() => "cut");
    assert.equal((await suite.daemon.hob("sleep", "box", "--force")).code, 0);
    assert.notEqual(await ended, 0, "a command that was cut is no success");
    assert.equal(await outputOf(box(), `tr '\\0' ' ' </proc/${running.stdout().toString().trim()}/cmdline`), "sh -c echo $$; sleep 9999 ");
  });

  test("a save that the disk has no room for leaves the sprite running", LIMIT, async () => {
    await outputOf(box(), "true");
    const { sprites } = await get<{ sprites: { id: string }[] }>("/v1/sprites");
    const { mkdirSync, rmdirSync } = await import("node:fs");
    // The file of the device state cannot be written where a folder has its name.
    const inTheWay = `${suite.daemon.home}/sprites/${sprites[0]?.id}/devices.state.tmp`;
    mkdirSync(inTheWay);
    const answer = await suite.daemon.fetch("/v1/sprites/box/sleep", { method: "POST" });
    assert.ok(answer.status >= 500, String(answer.status));
    rmdirSync(inTheWay);
    assert.equal(await outputOf(box(), "cat ~/note"), "kept");
    await isAsleep();
  });
});

describe("a save that is not what was saved", () => {
  const MEMORY = "memory.ram";
  const DEVICES = "devices.state";
  const overwrite = async (path: string) => {
    await using file = await open(path, "r+");
    const { size } = await file.stat();
    await file.write(Buffer.alloc(Math.min(size / 2, 1024 * 1024), "x"), { position: Math.floor(size / 4) });
  };
  const damages: Record<string, (folder: string) => Promise<unknown>> = {
    "a memory that is cut short": (folder) => truncate(join(folder, MEMORY), 64 * 1024 * 1024),
    "a memory that was written to": (folder) => overwrite(join(folder, MEMORY)),
    "a device state that was written to": (folder) => overwrite(join(folder, DEVICES)),
  };
  for (const [what, damage] of Object.entries(damages)) {
    test(`${what}: the sprite starts from its disk, and has all that it had`, LIMIT, async () => {
      const boot = await outputOf(
        box(),
        "head -c 3000000 /dev/urandom | tee ~/kept | sha256sum > ~/sum; cat /proc/sys/kernel/random/boot_id",
      );
      assert.equal((await suite.daemon.hob("sleep", "box")).stdout, "box is warm\n");
      const { id } = await get<Sprite>("/v1/sprites/box");
      await damage(join(suite.daemon.home, "sprites", id));
      assert.equal(await outputOf(box(), "sha256sum --check --quiet ~/sum < ~/kept && echo all there"), "all there");
      assert.notEqual(await outputOf(box(), "cat /proc/sys/kernel/random/boot_id"), boot);
    });
  }
});
