import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { KEPT, superfluous } from "../src/checkpoints/retention.ts";

const NOW = Date.parse("2026-03-10T12:30:00Z");
const at = (hoursAgo: number, index = 0) => ({ id: `auto-${index}`, createTime: new Date(NOW - hoursAgo * 3_600_000).toISOString() });
const keptOf = (ages: readonly number[]): number[] => {
  const all = [...ages].sort((a, b) => b - a).map((age, index) => ({ ...at(age, index), age }));
  const gone = new Set(superfluous(all, NOW));
  return all.filter((one) => !gone.has(one)).map(({ age }) => age);
};

test("the newest three stay, however close together", () => {
  assert.deepEqual(keptOf([0.04, 0.03, 0.02, 0.01]), [0.03, 0.02, 0.01]);
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
