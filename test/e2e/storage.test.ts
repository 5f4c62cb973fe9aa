/** What becomes of a sprite in the object store: durable, forked, moved, checked, and brought back from there alone. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { covers } from "./support/covers.ts";
import { outputOf } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { TestDaemon } from "./support/test-daemon.ts";
import { until } from "./support/wait.ts";

covers(
  "GET /v1/sprites/{name}/storage",
  "POST /v1/sprites/{name}/sync",
  "POST /v1/sprites/{name}/fork",
  "GET /v1/sprites/{name}/export",
  "POST /v1/sprites/{name}/fsck",
  "POST /v1/storage/import",
  "POST /v1/storage/fsck",
  "POST /v1/storage/gc",
);

const LIMIT = { timeout: 240_000 };
const WRITE = "head -c 3000000 /dev/urandom > /home/sprite/data && echo one > /home/sprite/note && sync && sha256sum /home/sprite/data";

const folder = mkdtempSync(join(tmpdir(), "hob-e2e-store-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const hob = useDaemon({ sprites: ["box"], flags: ["--store", `dir:${join(folder, "store")}`] });

const post = (path: string, body?: object): Promise<Response> =>
  hob.daemon.fetch(path, { method: "POST", ...(body === undefined ? {} : { body: JSON.stringify(body) }) });

// biome-ignore lint/suspicious/noExplicitAny: answers of many kinds, looked at field by field
const json = async (response: Response): Promise<any> => {
  const text = await response.text();
  assert.ok(response.ok, `${response.status}: ${text}`);
  return JSON.parse(text);
};

let sum = "";

describe("durable", () => {
  test("sync returns when all is in the store, and the status says so", LIMIT, async () => {
    sum = await outputOf(hob.sprite("box"), WRITE);
    const status = await json(await post("/v1/sprites/box/sync"));
    assert.equal(status.enabled, true);
    assert.equal(status.error, null);
    assert.ok(Date.parse(status.durable_at) > 0);
    assert.deepEqual((await json(await hob.daemon.fetch("/v1/sprites/box/storage"))).pending_checkpoints, []);
    const packs = readdirSync(join(folder, "store/orgs/hob/packs"));
    assert.ok(packs.length > 0);
  });

  test("a checkpoint is taken at once and durable after a sync", LIMIT, async () => {
    const stream = await hob.sprite("box").createCheckpoint("first");
    await stream.processAll(() => {});
    await outputOf(hob.sprite("box"), "echo two > /home/sprite/note && sync");
    await json(await post("/v1/sprites/box/sync"));
    const report = await json(await post("/v1/sprites/box/fsck"));
    assert.deepEqual(report.damage, []);
    assert.ok(Number(report.states) >= 2, "the head and the checkpoint");
  });
});

describe("a fork", () => {
  test("has the files of the present state, an identity of its own, and a life of its own", LIMIT, async () => {
    await json(await post("/v1/sprites/box/fork", { name: "twin" }));
    const twin = hob.sprite("twin");
    assert.equal(await outputOf(twin, "sha256sum /home/sprite/data"), sum);
    assert.equal(await outputOf(twin, "cat /home/sprite/note; echo three > /home/sprite/note; rm /home/sprite/data; sync"), "two");
    assert.notEqual(await outputOf(twin, "cat /etc/machine-id"), await outputOf(hob.sprite("box"), "cat /etc/machine-id"));
    assert.equal(await outputOf(hob.sprite("box"), "cat /home/sprite/note"), "two");
    await json(await post("/v1/sprites/twin/sync"));
    await hob.daemon.sdk().deleteSprite("twin");
  });

  test("of a checkpoint has the files of then; of one that is none there is no fork", LIMIT, async () => {
    await json(await post("/v1/sprites/box/fork", { name: "past", checkpoint: "v1" }));
    assert.equal(await outputOf(hob.sprite("past"), "cat /home/sprite/note"), "one");
    await hob.daemon.sdk().deleteSprite("past");
    const refused = await post("/v1/sprites/box/fork", { name: "never", checkpoint: "v99" });
    assert.equal(refused.status, 404);
    const taken = await post("/v1/sprites/box/fork", { name: "box" });
    assert.equal(taken.status, 400);
  });
});

describe("an export", () => {
  test("makes the same sprite again elsewhere; a damaged one makes none", LIMIT, async () => {
    const exported = await hob.daemon.fetch("/v1/sprites/box/export");
    assert.equal(exported.status, 200);
    const bytes = Buffer.from(await exported.arrayBuffer());
    const load = (name: string, body: Buffer) =>
      hob.daemon.fetch(`/v1/storage/import?name=${name}`, { method: "POST", body: new Blob([new Uint8Array(body)]) });
    const damaged = Buffer.from(bytes);
    damaged.writeUInt8(damaged.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    assert.equal((await load("broken", damaged)).status, 400);
    assert.equal((await load("short", bytes.subarray(0, bytes.length - 100))).status, 400);
    assert.deepEqual(
      ((await (await hob.daemon.fetch("/v1/sprites")).json()) as { sprites: { name: string }[] }).sprites.map(({ name }) => name),
      ["box"],
    );
    await json(await load("again", bytes));
    assert.equal(await outputOf(hob.sprite("again"), "sha256sum /home/sprite/data"), sum);
    const checkpoints = await hob.sprite("again").listCheckpoints();
    assert.ok(checkpoints.some(({ id, comment }) => id === "v1" && comment === "first"));
    await hob.daemon.sdk().deleteSprite("again");
  });
});

describe("the store", () => {
  test("gc counts and removes only what nothing reaches", LIMIT, async () => {
    const counted = await json(await post("/v1/storage/gc", { dry_run: true, grace_seconds: 0 }));
    assert.ok(Number(counted.deletedPacks) > 0, "of the sprites that were deleted");
    assert.equal((await post("/v1/storage/gc", { grace_seconds: 0 })).status, 409, "while one runs");
    await json(await post("/v1/sprites/box/sleep", { force: true }));
    await json(await post("/v1/storage/gc", { grace_seconds: 0 }));
    assert.deepEqual((await json(await post("/v1/storage/fsck"))).damage, []);
  });

  test("damage is found and named, and repaired from what the sprite's machine has", LIMIT, async () => {
    const packs = join(folder, "store/orgs/hob/packs");
    const [largest] = readdirSync(packs)
      .map((name) => ({ name, bytes: readFileSync(join(packs, name)) }))
      .sort((a, b) => b.bytes.length - a.bytes.length);
    const { name, bytes: whole } = largest ?? assert.fail("there is no pack");
    writeFileSync(
      join(packs, name),
      whole.map((byte, at) => (at % 1_000 === 999 ? byte ^ 1 : byte)),
    );
    const { damage } = await json(await post("/v1/sprites/box/fsck"));
    assert.ok((damage as unknown[]).length > 0);
    assert.equal((await post("/v1/sprites/box/fsck?repair=perhaps")).status, 400);
    const repaired = await hob.daemon.hob("fsck", "box", "--repair");
    assert.equal(repaired.code, 0, repaired.stderr);
    assert.match(repaired.stdout, /Clean/);
    assert.deepEqual((await json(await post("/v1/sprites/box/fsck"))).damage, []);
    // What comes next builds on what was repaired.
    await outputOf(hob.sprite("box"), "touch /home/sprite/after && sync");
    await json(await post("/v1/sprites/box/sync"));
    assert.deepEqual((await json(await post("/v1/sprites/box/fsck"))).damage, []);
  });
});

describe("a store that has lost what says where everything is", () => {
  const org = join(folder, "store/orgs/hob");

  test("gets pages of the map and a checkpoint's document back", LIMIT, async () => {
    await json(await post("/v1/sprites/box/sync"));
    const { id } = await json(await hob.daemon.fetch("/v1/sprites/box"));
    const head = JSON.parse(readFileSync(join(org, "sprites", id, "head.json"), "utf8"));
    rmSync(join(org, "maps", head.root));
    for (const name of readdirSync(join(org, "maps"))) {
      const bytes = readFileSync(join(org, "maps", name));
      writeFileSync(
        join(org, "maps", name),
        bytes.map((byte, at) => (at === bytes.length >> 1 ? byte ^ 1 : byte)),
      );
    }
    const { document } = head.checkpoints.find((one: { id: string }) => one.id === "v1");
    rmSync(join(org, "sprites", id, "checkpoints", `v1.${document.slice(0, 16)}.json`));
    const { damage } = await json(await post("/v1/sprites/box/fsck"));
    const lost = new Map((damage as { checkpoint: string | null; blocks: unknown[] }[]).map((one) => [one.checkpoint, one.blocks]));
    assert.deepEqual([lost.get("v1"), lost.get(null)], [[], [{ first: 0, count: 256 ** 3 }]]);
    const repaired = await hob.daemon.hob("fsck", "box", "--repair");
    assert.equal(repaired.code, 0, repaired.stdout + repaired.stderr);
    assert.match(repaired.stdout, /Clean/);
    await outputOf(hob.sprite("box"), "touch /home/sprite/later && sync");
    await json(await post("/v1/sprites/box/sync"));
    assert.deepEqual((await json(await post("/v1/sprites/box/fsck"))).damage, []);
  });
});

describe("from the store alone", () => {
  test("a sprite whose files on this machine are gone comes back whole, with its checkpoints", LIMIT, async () => {
    await json(await post("/v1/sprites/box/sync"));
    await hob.daemon.stop();
    rmSync(join(hob.daemon.home, "sprites"), { recursive: true });
    await hob.daemon.restart();
    assert.equal(await outputOf(hob.sprite("box"), "sha256sum /home/sprite/data"), sum);
    assert.equal(await outputOf(hob.sprite("box"), "cat /home/sprite/note"), "two");
    const looked = "cat /.sprite/checkpoints/v1/home/sprite/note";
    await until("its checkpoints are to be seen inside", async () => (await outputOf(hob.sprite("box"), looked)) === "one", 60_000);
    const restored = await hob.sprite("box").restoreCheckpoint("v1");
    await restored.processAll(() => {});
    assert.equal(await outputOf(hob.sprite("box"), "cat /home/sprite/note; sha256sum /home/sprite/data"), `one\n${sum}`);
    await json(await post("/v1/sprites/box/sync"));
    assert.deepEqual((await json(await post("/v1/sprites/box/fsck"))).damage, []);
  });

  test("it goes on to read what lies over states that are gone", LIMIT, async () => {
    // Its volume lies over the map of v1, where nothing was written to since.
    assert.equal((await hob.daemon.fetch("/v1/sprites/box/checkpoints/v1", { method: "DELETE" })).status, 204);
    await outputOf(hob.sprite("box"), "touch /home/sprite/since && sync");
    await json(await post("/v1/sprites/box/sync"));
    // A sleep would keep what the VM has in memory of the map.
    for (const { pid } of hob.daemon.vmProcesses("qemu")) process.kill(pid, "SIGKILL");
    const status = async () => (await json(await hob.daemon.fetch("/v1/sprites/box"))).status;
    await until("it is noticed that the VMM has ended", async () => (await status()) === "cold");
    await json(await post("/v1/storage/gc", { grace_seconds: 0 }));
    assert.equal(await outputOf(hob.sprite("box"), "cat /home/sprite/note; sha256sum /home/sprite/data"), `one\n${sum}`);
  });

  test("another host on the same store takes it over, and this one can write no more", LIMIT, async () => {
    await using other = await TestDaemon.start({ flags: ["--store", `dir:${join(folder, "store")}`] });
    assert.equal(await outputOf(other.sdk().sprite("box"), "cat /home/sprite/note; echo four > /home/sprite/note; sync"), "one");
    assert.ok((await other.fetch("/v1/sprites/box/sync", { method: "POST" })).ok);
    await outputOf(hob.sprite("box"), "echo lost > /home/sprite/note; sync").catch(() => {});
    const refused = await post("/v1/sprites/box/sync");
    assert.deepEqual([refused.status, JSON.parse(await refused.text()).error], [409, "ownership_lost"]);
    await until("the VM of the host that lost the sprite has ended", () => hob.daemon.vmProcesses("qemu").length === 0, 60_000);
    assert.equal(await outputOf(other.sdk().sprite("box"), "cat /home/sprite/note"), "four");
  });
});
