import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Hono } from "hono";
import { pino } from "pino";
import { Activity } from "../src/activity/activity.ts";
import { withErrorAnswers } from "../src/api/server.ts";
import { taskRoutes } from "../src/tasks/routes.ts";
import { Tasks } from "../src/tasks/tasks.ts";

let folder: string;
let nowMs: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hob-tasks-"));
  nowMs = Date.parse("2026-06-02T12:00:00.000Z");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const path = () => join(folder, "tasks.json");

async function make() {
  const activity = new Activity({ wall: () => nowMs, monotonic: () => nowMs });
  const tasks = new Tasks(path(), activity, () => nowMs);
  await tasks.load();
  const app = withErrorAnswers(new Hono(), pino({ level: "silent" })).route("/v1", taskRoutes(tasks));
  const ask = async (method: string, target: string, body?: unknown) => {
    const answer = await app.request(`/v1${target}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const text = await answer.text();
    return [answer.status, text === "" ? undefined : JSON.parse(text)] as const;
  };
  return { activity, tasks, ask };
}
const task = (name: string, started: string, expires: string) => ({
  name,
  started_at: `2026-06-02T${started}:00.000Z`,
  expires_at: `2026-06-02T${expires}:00.000Z`,
});

test("a task holds the sprite until it expires or is deleted", async () => {
  const { activity, ask } = await make();
  assert.deepEqual(await ask("POST", "/tasks", { name: "build", expire: "30m" }), [201, task("build", "12:00", "12:30")]);
  assert.deepEqual(await ask("POST", "/tasks", { name: "other", expire: 3_600 }), [201, task("other", "12:00", "13:00")]);
  assert.deepEqual(
    activity.holders().map(({ kind, name, until }) => [kind, name, until]),
    [
      ["task", "build", nowMs + 1_800_000],
      ["task", "other", nowMs + 3_600_000],
    ],
  );
  nowMs += 1_800_000;
  assert.deepEqual(await ask("GET", "/tasks"), [200, { tasks: [task("other", "12:00", "13:00")] }]);
  assert.equal((await ask("GET", "/tasks/build"))[0], 404);
  assert.deepEqual(await ask("DELETE", "/tasks/other"), [204, undefined]);
  assert.deepEqual([activity.holders(), activity.idleMs()], [[], 0]);
  assert.equal((await ask("DELETE", "/tasks/other"))[0], 404);
});

test("PUT makes or renews, by path or by body; POST only makes", async () => {
  const { activity, ask } = await make();
  assert.deepEqual(await ask("PUT", "/tasks/a", { expire: "10m" }), [200, task("a", "12:00", "12:10")]);
  nowMs += 60_000;
  assert.deepEqual(await ask("PUT", "/tasks", { name: "a", expire: "20m" }), [200, task("a", "12:00", "12:21")]);
  assert.equal(activity.holders().length, 1, "the hold before is let go");
  assert.equal((await ask("POST", "/tasks", { name: "a", expire: "1m" }))[0], 409);
  assert.equal((await ask("PUT", "/tasks/a", { name: "b", expire: "1m" }))[0], 400);
  assert.equal((await ask("PUT", "/tasks", { expire: "1m" }))[0], 400);
});

test("bad names and durations are refused", async () => {
  const { ask } = await make();
  for (const expire of ["61m", "1h1s", 3_601, 0, "0s", "soon", "", null, -5]) {
    assert.equal((await ask("POST", "/tasks", { name: "a", expire }))[0], 400, String(expire));
  }
  for (const name of ["", "a b", "../x", "x".repeat(129), 7])
    assert.equal((await ask("POST", "/tasks", { name, expire: "1m" }))[0], 400, String(name));
  assert.equal((await ask("PUT", "/tasks/a%20b", { expire: "1m" }))[0], 400);
  assert.deepEqual((await ask("GET", "/tasks"))[1], { tasks: [] });
});

test("there is room for 64; renewing needs none", async () => {
  const { ask } = await make();
  for (let i = 0; i < 64; i++) assert.equal((await ask("POST", "/tasks", { name: `t${i}`, expire: "1m" }))[0], 201);
  assert.equal((await ask("POST", "/tasks", { name: "more", expire: "1m" }))[0], 409);
  assert.equal((await ask("PUT", "/tasks/t0", { expire: "2m" }))[0], 200);
});

test("the next pilot takes them up, without those that have expired; a damaged file counts as none", async () => {
  const first = await make();
  await first.ask("POST", "/tasks", { name: "short", expire: "1m" });
  await first.ask("POST", "/tasks", { name: "long", expire: "1h" });
  nowMs += 120_000;
  const second = await make();
  assert.deepEqual(second.tasks.list(), [task("long", "12:00", "13:00")]);
  assert.equal(second.activity.holders().length, 1);
  nowMs -= 86_400_000;
  const third = await make();
  assert.equal(Date.parse(third.tasks.get("long").expires_at) - nowMs, 3_600_000, "no longer than an hour, whatever the clock did");
  writeFileSync(path(), readFileSync(path(), "utf8").slice(0, 20));
  assert.deepEqual((await make()).tasks.list(), []);
});
