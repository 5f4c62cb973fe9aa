import assert from "node:assert/strict";
import { test } from "node:test";
import { bounded } from "../src/runtime/bounded.ts";

const LONG_MS = 2 ** 30;
const heard = () => {
  const lines: [object, string][] = [];
  return { lines, report: { what: "stop a part", log: { error: (...line: [object, string]) => void lines.push(line) } } };
};

test("what ends in time is waited for, and nothing is said", async () => {
  const { lines, report } = heard();
  const { promise, resolve } = Promise.withResolvers<void>();
  let isOver = false;
  const waiting = bounded(promise, LONG_MS, report).then(() => {
    isOver = true;
  });
  await new Promise(setImmediate);
  assert.equal(isOver, false);
  resolve();
  await waiting;
  assert.deepEqual(lines, []);
});

test("a failure counts as the end, and is told", async () => {
  const { lines, report } = heard();
  const error = new Error("as the test asked");
  await bounded(Promise.reject(error), LONG_MS, report);
  await bounded(Promise.reject(error), LONG_MS);
  assert.deepEqual(lines, [[{ err: error }, "stop a part: failed"]]);
});

test("what does not end is not waited for for ever, and that is told", async () => {
  const { lines, report } = heard();
  await bounded(new Promise(() => {}), 1, report);
  await bounded(new Promise(() => {}), 1);
  assert.deepEqual(lines, [[{ ms: 1 }, "stop a part: not done in time"]]);
});
