import assert from "node:assert/strict";
import { test } from "node:test";
import { Activity } from "../src/activity/activity.ts";

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
