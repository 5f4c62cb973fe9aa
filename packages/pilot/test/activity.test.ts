import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PrepareSleepResponse, SettleResponse } from "@hob/protocol";
import { Hono } from "hono";
import { pino } from "pino";
import { Activity } from "../src/activity/activity.ts";
import { withErrorAnswers } from "../src/api/server.ts";
import { activityRoutes } from "../src/host-api/activity-routes.ts";

function activityAt(startWall = 1_000_000) {
  const clock = { wallMs: startWall, monotonicMs: 0 };
  const activity = new Activity({ wall: () => clock.wallMs, monotonic: () => clock.monotonicMs });
  const pass = (ms: number) => {
    clock.wallMs += ms;
    clock.monotonicMs += ms;
  };
  return { activity, clock, pass };
}

test("idle time runs from the last touch, and stands at zero while anything holds", () => {
  const { activity, pass } = activityAt();
  pass(500);
  assert.equal(activity.idleMs(), 500);
  activity.touch();
  pass(20);
  assert.equal(activity.idleMs(), 20);
  const hold = activity.hold("session", "1");
  pass(5_000);
  assert.equal(activity.idleMs(), 0);
  hold[Symbol.dispose]();
  pass(30);
  assert.equal(activity.idleMs(), 30, "it counts from the release");
  hold[Symbol.dispose]();
  assert.equal(activity.idleMs(), 30, "a second release is no activity");
});

test("a holder with an end stops holding then, and idleness counts from its end", () => {
  const { activity, pass } = activityAt();
  activity.hold("task", "build", 1_000_000 + 100);
  assert.deepEqual(activity.holders(), [{ kind: "task", name: "build", since: 1_000_000, until: 1_000_100 }]);
  pass(99);
  assert.equal(activity.idleMs(), 0);
  pass(51);
  assert.deepEqual(activity.holders(), []);
  assert.equal(activity.idleMs(), 50);
});

test("a clock that was stepped by hours does not make a sprite idle for hours", () => {
  const { activity, clock, pass } = activityAt();
  pass(10);
  clock.wallMs += 3_600_000;
  assert.equal(activity.idleMs(), 10);
  activity.hold("task", "long", clock.wallMs + 10);
  pass(10);
  clock.wallMs += 3_600_000;
  assert.equal(activity.idleMs() <= 20, true);
});

describe("what the host asks", () => {
  const ask = async (app: Hono, method: string, path: string, body?: object) => {
    const response = await app.request(path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    return { status: response.status, body: (await response.json().catch(() => undefined)) as PrepareSleepResponse };
  };

  const nothing = { sync: async () => {}, isUnsettled: async () => false, settle: async () => null };

  test("prepare-sleep: says what is not settled, when nothing else is in the way and when it is asked for", async () => {
    let monotonic = 0;
    const activity = new Activity({ wall: () => 0, monotonic: () => monotonic });
    monotonic = 1_000;
    const order: string[] = [];
    const app = activityRoutes({
      ...nothing,
      activity,
      sync: async () => void order.push("sync"),
      isUnsettled: async () => {
        order.push("look");
        return true;
      },
    });
    const answer = async (body: object) => {
      const { ready, unsettled } = (await ask(app, "POST", "/hob/prepare-sleep", body)).body;
      return [ready, unsettled];
    };
    assert.deepEqual(await answer({ idleMs: 1_000, force: false, settled: true }), [false, true]);
    assert.deepEqual(order, ["sync", "look"], "what is not on the disk is not seen");
    assert.deepEqual(await answer({ idleMs: 1_000, force: false }), [true, false], "as older hosts ask");
    assert.deepEqual(await answer({ idleMs: 1_001, force: false, settled: true }), [false, false]);
    assert.deepEqual(await answer({ idleMs: 1_001, force: true, settled: true }), [false, true]);
  });

  test("settle: keeps what was changed only when the sprite may sleep, and says what the store lacks", async () => {
    let monotonic = 0;
    const activity = new Activity({ wall: () => 0, monotonic: () => monotonic });
    const lag = { lagMs: 5, checkpoints: 1, error: null };
    const waits: number[] = [];
    let meanwhile = () => {};
    const settle = async (waitMs: number) => {
      waits.push(waitMs);
      meanwhile();
      return lag;
    };
    const app = activityRoutes({ ...nothing, activity, settle });
    const answer = async (idleMs: number, force = false) => {
      const { body } = await ask(app, "POST", "/hob/settle", { idleMs, force, waitMs: 7 });
      return [body.ready, (body as SettleResponse).lag];
    };
    assert.deepEqual([await answer(1_000), waits], [[false, null], []]);
    monotonic = 1_000;
    assert.deepEqual([await answer(1_000), waits], [[true, lag], [7]]);
    meanwhile = () => activity.touch();
    assert.deepEqual(await answer(1_000), [false, lag], "something happened meanwhile");
    using _ = activity.hold("task", "build");
    assert.deepEqual([await answer(0), waits.length], [[false, null], 2], "one that is held awake is not kept again and again");
    assert.deepEqual([await answer(0, true), waits.length], [[true, lag], 3], "by force");
    const refused = withErrorAnswers(new Hono().route("/", app), pino({ level: "silent" }));
    assert.equal((await ask(refused, "POST", "/hob/settle", { idleMs: 0, force: true })).status, 400);
  });

  test("activity: holders and idle time", async () => {
    const activity = new Activity({ wall: () => 5, monotonic: () => 7 });
    using _ = activity.hold("task", "build");
    const { body } = await ask(activityRoutes({ activity, ...nothing }), "GET", "/hob/activity");
    assert.deepEqual(body, { holders: [{ kind: "task", label: "build", since: 5 }], idleMs: 0 });
  });

  test("prepare-sleep: flushes when it may sleep, and looks again after that", async () => {
    let monotonic = 0;
    const activity = new Activity({ wall: () => 0, monotonic: () => monotonic });
    let flushes = 0;
    let whileFlushing = () => {};
    const sync = async () => {
      flushes++;
      whileFlushing();
    };
    const app = activityRoutes({ ...nothing, activity, sync });
    const prepare = async (idleMs: number, force = false) => (await ask(app, "POST", "/hob/prepare-sleep", { idleMs, force })).body.ready;
    monotonic = 999;
    assert.deepEqual([await prepare(1_000), flushes], [false, 0]);
    monotonic = 1_000;
    assert.deepEqual([await prepare(1_000), flushes], [true, 1]);
    whileFlushing = () => activity.touch();
    assert.deepEqual([await prepare(1_000), flushes], [false, 2], "something happened while it flushed");
    const hold = activity.hold("session", "7");
    assert.deepEqual([await prepare(0), flushes], [false, 2]);
    assert.deepEqual([await prepare(0, true), flushes], [true, 3], "by force");
    hold[Symbol.dispose]();
    assert.equal(await prepare(0), true);
    for (const bad of [{}, { idleMs: -1, force: false }, { idleMs: 1 }]) {
      const refused = withErrorAnswers(new Hono().route("/", app), pino({ level: "silent" }));
      assert.equal((await ask(refused, "POST", "/hob/prepare-sleep", bad)).status, 400);
    }
  });
});
