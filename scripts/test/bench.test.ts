import assert from "node:assert/strict";
import { test } from "node:test";
import type { Part } from "../bench/part.ts";
import { PartFailed, runPart } from "../bench/part.ts";
import { markdownTable, type Section, sectionToMarkdown, updatePage } from "../bench/report.ts";
import { keeps, type Row, ratioOf, Series } from "../bench/stats.ts";

const row = (over: Partial<Row>): Row => ({ what: "it", value: 10, unit: "ms", n: 1, ...over });

test("a series has nearest-rank percentiles, and none when it is empty", () => {
  const series = new Series();
  assert.ok(Number.isNaN(series.p50));
  for (const value of [5, 1, 4, 2, 3]) series.add(value);
  assert.deepEqual(
    [0, 20, 50, 99, 100].map((p) => series.percentile(p)),
    [1, 1, 3, 5, 5],
  );
});

test("times and sizes must not exceed their budget, rates not fall below it", () => {
  assert.equal(keeps(row({})), undefined);
  assert.equal(keeps(row({ budget: { kind: "value", limit: 10 } })), true);
  assert.equal(keeps(row({ budget: { kind: "value", limit: 9 } })), false);
  assert.equal(keeps(row({ unit: "/s", budget: { kind: "value", limit: 11 } })), false);
  const beside = { what: "other", value: 20 };
  assert.equal(ratioOf(row({ beside })), 0.5);
  assert.equal(keeps(row({ beside, budget: { kind: "ratio", limit: 0.5 } })), true);
  assert.equal(keeps(row({ unit: "MB/s", beside, budget: { kind: "ratio", limit: 0.9 } })), false);
  assert.equal(keeps(row({ value: Number.NaN, budget: { kind: "value", limit: 9 } })), undefined, "what was not measured is neither");
});

test("a table is as wide as its widest cells", () => {
  assert.equal(markdownTable(["a", "long"], [["wider", "b"]]), "| a     | long |\n|-------|------|\n| wider | b    |");
});

const section = (name: string, value: number): Section => ({ name, circumstances: "here", rows: [row({ value })] });

test("a page takes what was measured, keeps the rest, and has its own order", () => {
  const order = ["one", "two", "three"];
  const page = updatePage("# Title\n\nText.\n", [section("three", 3), section("one", 1)], order);
  assert.match(page, /^# Title\n\nText\.\n\n## one\n.*\| 1 ms.*\n\n## three\n.*\| 3 ms.*\n$/s);
  const again = updatePage(page, [section("two", 2), section("one", 11)], order);
  assert.deepEqual(again.match(/^## .*/gm), ["## one", "## two", "## three"]);
  assert.match(again, /\| 11 ms/);
  assert.match(again, /\| 3 ms/);
  assert.ok(!again.includes("| 1 ms"));
  assert.deepEqual(updatePage(again, [], ["two"]).match(/^## .*/gm), ["## two"], "a part that is no more is dropped");
});

test("a row says what it is held against, its budget, and whether it keeps it", () => {
  const text = sectionToMarkdown({
    ...section("x", 0),
    rows: [row({ beside: { what: "bare", value: 5 }, budget: { kind: "ratio", limit: 3 }, note: "why" })],
  });
  assert.match(text, /\| it +\| 10 ms +\| 1 +\| bare: 5 ms; why +\| 2\.00 +\| ratio ≤ 3 +\| kept +\|/);
  assert.match(sectionToMarkdown({ ...section("x", Number.NaN) }), /not measured/);
});

const part = (run: Part["run"], minutes = 1): Part => ({ name: "it", title: "", boundMinutes: { quick: minutes, full: minutes }, run });
const options = { quick: true, progress: () => {}, signal: new AbortController().signal };

test("what a part has taken is given back, the last first, whatever comes of it", async () => {
  const done: string[] = [];
  const taking: Part["run"] = async (context) => {
    context.defer(() => void done.push("first"));
    context.defer(async () => void done.push("second"));
    if (context.states === "fail") throw new Error("no");
    return [row({})];
  };
  assert.equal((await runPart(part(taking), options)).rows.length, 1);
  assert.deepEqual(done.splice(0), ["second", "first"]);
  await assert.rejects(runPart(part(taking), { ...options, states: "fail" }), new PartFailed("it: no"));
  assert.deepEqual(done, ["second", "first"]);
});

test("a part that takes too long or is interrupted is given up, and cleaned up after", async () => {
  let cleaned = 0;
  const endless: Part["run"] = (context) => {
    context.defer(() => void cleaned++);
    return new Promise(() => {});
  };
  await assert.rejects(runPart(part(endless, 1 / 60_000), options), /it: not done after/);
  const interrupted = new AbortController();
  const running = runPart(part(endless), { ...options, signal: interrupted.signal });
  interrupted.abort(new Error("interrupted"));
  await assert.rejects(running, /it: interrupted/);
  assert.equal(cleaned, 2);
});
