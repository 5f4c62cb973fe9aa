import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KEPT, superfluous } from "../src/checkpoints/retention.ts";

const NOW = Date.parse("2026-03-10T12:30:00Z");
const at = (hoursAgo: number, index = 0, reason = "sleep") => ({
  id: `auto-${index}`,
  createTime: new Date(NOW - hoursAgo * 3_600_000).toISOString(),
  reason,
});
const keptOf = (ages: readonly number[]): number[] => {
  const all = [...ages].sort((a, b) => b - a).map((age, index) => ({ ...at(age, index), age }));
  const gone = new Set(superfluous(all, NOW));
  return all.filter((one) => !gone.has(one)).map(({ age }) => age);
};

test("the newest three stay, however close together", () => {
  assert.deepEqual(keptOf([0.04, 0.03, 0.02, 0.01]), [0.03, 0.02, 0.01]);
});

test("many of one reason do not push out those of another", () => {
  const sleeps = Array.from({ length: 20 }, (_, index) => at(0.3 - index * 0.01, index));
  const restores = [at(0.4, 100, "restore"), at(0.35, 101, "restore")];
  const gone = new Set(superfluous([...restores, ...sleeps], NOW));
  assert.deepEqual(
    [...restores, ...sleeps].filter((one) => !gone.has(one)).map(({ id }) => id),
    ["auto-100", "auto-101", "auto-17", "auto-18", "auto-19"],
  );
});

test("the newest of each hour of a day, of each day of a week; older ones go", () => {
  assert.deepEqual(keptOf([0, 0.1, 0.2, 1.1, 1.2, 5, 30, 31, 60, 24 * 6, 24 * 9, 24 * 100]), [144, 60, 30, 5, 1.1, 0.2, 0.1, 0]);
});

test("the number is bounded, and thinning twice is thinning once", () => {
  const most = KEPT.newest + KEPT.hours + KEPT.days;
  fc.assert(
    fc.property(fc.array(fc.double({ min: -50, max: 2000, noNaN: true }), { maxLength: 300 }), (ages) => {
      const kept = keptOf(ages);
      assert.ok(kept.length <= most, `${kept.length}`);
      assert.deepEqual(keptOf(kept), kept);
    }),
  );
});
