/** What is answered for a sprite that sleeps, and what becomes of one that fell asleep before all it had was in the object store. */
import assert from "node:assert/strict";
import { readFileSync, renameSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Checkpoint, Sprite, SpriteActivity, StorageStatus } from "@hob/protocol";
import { completed } from "./support/checkpoints.ts";
import { covers } from "./support/covers.ts";
import { outputOf } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 240_000 };
/** From a store that answers again to a sprite that sleeps again. */
const CAUGHT_UP_MS = 120_000;

covers("GET /v1/sprites/{name}/checkpoints", "GET /v1/sprites/{name}/checkpoints/{id}");
covers("GET /v1/sprites/{name}/storage", "POST /v1/sprites/{name}/sync");

const suite = useDaemon({ sprites: ["web"] });
const web = () => suite.sprite("web");

async function get<T>(path: string, init: RequestInit = {}): Promise<T> {
  const answer = await suite.daemon.fetch(`/v1/sprites/web${path}`, init);
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return JSON.parse(text) as T;
}
const hob = async (...args: string[]) => {
  const { code, stdout, stderr } = await suite.daemon.hob(...args);
  assert.equal(code, 0, stderr);
  return stdout;
};
const activity = () => get<SpriteActivity>("/activity");
const storeFolder = () => join(suite.daemon.home, "store");
const durableIds = async () => {
  const { id } = await get<Sprite>("");
  const head = readFileSync(join(storeFolder(), "orgs/hob/sprites", id, "head.json"), "utf8");
  return (JSON.parse(head) as { checkpoints: { id: string }[] }).checkpoints.map((one) => one.id);
};

/** The store is a folder that cannot be entered: each part of a path that leads through it fails with ELOOP, path_resolution(7). */
function takeStoreAway(): void {
  renameSync(storeFolder(), `${storeFolder()}.away`);
  symlinkSync("store", storeFolder());
}
function bringStoreBack(): void {
  unlinkSync(storeFolder());
  renameSync(`${storeFolder()}.away`, storeFolder());
}

/** All checkpoints but automatic ones, which a sleep adds to; the live state is of the moment when it is asked for. */
async function listed(): Promise<Checkpoint[]> {
  const [current = assert.fail("nothing is listed"), ...others] = await get<Checkpoint[]>("/checkpoints");
  return [{ ...current, create_time: "" }, ...others];
}

/** It sleeps, and nothing runs for it. */
async function isAsleep(): Promise<void> {
  assert.equal((await get<Sprite>("")).status, "warm");
  assert.deepEqual(suite.daemon.vmProcesses(), []);
}

test("the checkpoints of a sprite that sleeps are listed as it listed them itself", LIMIT, async () => {
  await outputOf(web(), "echo one > ~/note");
  await completed(web().createCheckpoint("first"));
  await hob("sync", "web");
  takeStoreAway();
  await outputOf(web(), "echo two > ~/note");
  await completed(web().createCheckpoint("not in the store"));
  const before = await listed();
  assert.deepEqual(
    before.map(({ id, durable }) => [id, durable]),
    [
      ["Current", undefined],
      ["v2", false],
      ["v1", true],
    ],
  );
  assert.equal(await hob("sleep", "web"), "web is warm\n");
  assert.deepEqual(await listed(), before);
  assert.deepEqual(await get<Checkpoint>("/checkpoints/v2"), before[1]);
  assert.deepEqual(await get<Checkpoint[]>("/checkpoints?history=v2"), [before[1]]);
  assert.equal((await suite.daemon.fetch("/v1/sprites/web/checkpoints/v9")).status, 404);
  assert.match(await hob("checkpoint", "list", "web"), /^v2 .*not yet .*not in the store$/m);
  assert.deepEqual(
    (await web().listCheckpoints()).map(({ id }) => id),
    ["Current", "v2", "v1"],
  );
  await isAsleep();
});

test("what the store lacks of it is not forgotten, and brought there when the store is back", LIMIT, async () => {
  const { behind } = await activity();
  assert.ok((behind?.checkpoints ?? 0) >= 1, JSON.stringify(behind));
  assert.match(await hob("info", "web"), /^durable +all but .* checkpoint/m);
  assert.ok((await get<StorageStatus>("/storage")).pending_checkpoints.includes("v2"));
  await suite.daemon.kill9();
  bringStoreBack();
  await suite.daemon.restart();
  const again = await activity();
  assert.deepEqual([again.behind?.since, again.status], [behind?.since, "warm"]);
  assert.ok(!(await durableIds()).includes("v2"));
  const hasCaughtUp = async () => {
    const { behind: left, status, last_wake } = await activity();
    return left === null && status === "warm" && last_wake !== null;
  };
  await until("it has been brought there, and sleeps again", hasCaughtUp, CAUGHT_UP_MS);
  assert.ok((await durableIds()).includes("v2"));
  const { last_wake } = await activity();
  assert.equal(last_wake?.reason, "what the object store lacks");
  assert.deepEqual(
    (await listed()).map(({ id, durable }) => [id, durable]),
    [
      ["Current", undefined],
      ["v2", true],
      ["v1", true],
    ],
  );
  await isAsleep();
});

test("a sync of a sprite that sleeps is over at once when nothing is missing; the sprite wakes as it was", LIMIT, async () => {
  assert.match(await hob("sync", "web"), /Durable/);
  await isAsleep();
  const { durable_lag_seconds, pending_checkpoints, uploading } = await get<StorageStatus>("/storage");
  assert.deepEqual([durable_lag_seconds, pending_checkpoints, uploading], [0, [], false]);
  assert.equal(await outputOf(web(), "cat ~/note"), "two");
  assert.deepEqual(
    (await listed()).map(({ id }) => id),
    ["Current", "v2", "v1"],
  );
});
