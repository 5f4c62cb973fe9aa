import assert from "node:assert/strict";
import { test } from "node:test";
import type { BlockRange } from "@hob/storage";
import fc from "fast-check";
import { BlockSpans } from "../src/volume/block-spans.ts";

const step = fc.record({ gap: fc.nat({ max: 5 }), count: fc.integer({ min: 1, max: 4 }) });

function rangesOf(steps: readonly { gap: number; count: number }[]): BlockRange[] {
  let at = 0;
  return steps.map(({ gap, count }) => {
    const first = at + gap;
    at = first + count;
    return { first, count };
  });
}

const blocksOf = (ranges: Iterable<BlockRange>): number[] =>
  [...ranges].flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));

function covered(ranges: readonly BlockRange[], spansMax?: number): BlockRange[] {
  const spans = new BlockSpans(spansMax);
  for (const range of ranges) spans.add(range);
  return [...spans];
}

test("ranges that touch are one, others stay as they are", () => {
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const spans = covered(rangesOf(steps));
      assert.deepEqual(blocksOf(spans), blocksOf(rangesOf(steps)));
      for (const [i, { first }] of spans.entries()) if (i > 0) assert.ok(first > (spans[i - 1]?.first ?? 0) + (spans[i - 1]?.count ?? 0));
    }),
  );
});

test("however many there are, their cover is bounded, in order, and has every block", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 8 }), (steps, spansMax) => {
      const spans = covered(rangesOf(steps), spansMax);
      assert.ok(spans.length <= spansMax);
      const [blocks, wanted] = [blocksOf(spans), blocksOf(rangesOf(steps))];
      assert.ok(blocks.every((block, i) => i === 0 || block > (blocks[i - 1] ?? block)));
      const inSpans = new Set(blocks);
      assert.ok(wanted.every((block) => inSpans.has(block)));
      assert.deepEqual([blocks.at(0), blocks.at(-1)], [wanted.at(0), wanted.at(-1)]);
    }),
  );
});

test("what lies far apart stays apart", () => {
  const ranges = [0, 2, 4, 1_000, 1_002].map((first) => ({ first, count: 1 }));
  assert.deepEqual(covered(ranges, 2), [
    { first: 0, count: 5 },
    { first: 1_000, count: 3 },
  ]);
});
