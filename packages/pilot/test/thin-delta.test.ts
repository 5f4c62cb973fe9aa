import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ChangedRange, ThinXmlReader } from "../src/volume/thin-delta.ts";

const DELTA = `<superblock uuid="" time="2" transaction="0" data_block_size="128" nr_data_blocks="4935680">
  <diff left="1" right="2">
    <same begin="0" length="133"/>
    <different begin="133" length="2"/>
    <left_only begin="140" length="5"/>
    <right_only begin="200" length="1"/>
    <same begin="16384" length="1"/>
  </diff>
</superblock>
`;
const DUMP = `<superblock uuid="" time="2" transaction="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="2" mapped_blocks="12" transaction="0" creation_time="1" snap_time="2">
    <single_mapping origin_block="0" data_block="7" time="0"/>
    <range_mapping origin_begin="10" data_begin="100" length="11" time="1"/>
  </device>
</superblock>
`;

function readAll(text: string, cuts: readonly number[] = []): { ranges: ChangedRange[]; complete: boolean } {
  const reader = new ThinXmlReader();
  const edges = [0, ...cuts.map((cut) => cut % text.length).sort((a, b) => a - b), text.length];
  const ranges = edges.slice(1).flatMap((end, index) => reader.push(text.slice(edges[index], end)));
  return { ranges, complete: reader.complete };
}

const CHANGED = [
  { begin: 133, length: 2, mapped: true },
  { begin: 140, length: 5, mapped: false },
  { begin: 200, length: 1, mapped: true },
];

test("a delta: what is not the same, and what is gone", () => {
  assert.deepEqual(readAll(DELTA), { ranges: CHANGED, complete: true });
});

test("a dump: all that is mapped", () => {
  assert.deepEqual(readAll(DUMP).ranges, [
    { begin: 0, length: 1, mapped: true },
    { begin: 10, length: 11, mapped: true },
  ]);
});

test("however the bytes arrive", () => {
  fc.assert(fc.property(fc.array(fc.nat(), { maxLength: 40 }), (cuts) => assert.deepEqual(readAll(DELTA, cuts).ranges, CHANGED)));
});

test("a document that is cut off is not complete", () => {
  assert.equal(readAll(DELTA.slice(0, -15)).complete, false);
});

test("what is no such document is refused, and does not fill memory", () => {
  assert.throws(() => readAll('<different begin="x" length="1"/>'), /unexpected/);
  assert.throws(() => readAll('<different begin="1"/>'), /unexpected/);
  assert.throws(() => readAll("x".repeat(100_000)), /unexpected/);
});
