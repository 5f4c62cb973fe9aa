import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Ranges } from "../src/util/ranges.ts";

test("ranges are a set of blocks, in whatever order and however often they are given", () => {
  const range = fc.record({ first: fc.integer({ min: 0, max: 60 }), count: fc.integer({ min: 1, max: 12 }) });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), range, (given, one) => {
      const ranges = new Ranges(given);
      const blocks = [...new Set(given.flatMap(({ first, count }) => Array.from({ length: count }, (_, at) => first + at)))].sort(
        (a, b) => a - b,
      );
      const here = blocks.filter((block) => block >= one.first && block < one.first + one.count);
      assert.deepEqual([...ranges.blocks()], blocks);
      assert.equal(ranges.size, blocks.length);
      assert.deepEqual([...ranges.within(one.first, one.count).blocks()], here);
      assert.equal(ranges.has(one.first, one.count), here.length > 0);
      assert.equal(ranges.covers(one.first, one.count), here.length === one.count);
    }),
  );
});
