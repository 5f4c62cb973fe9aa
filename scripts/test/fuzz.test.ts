import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Random } from "../../packages/storage/test/support/random.ts";
import { randomFor, runTarget } from "../torture/fuzz/engine.ts";
import { mutated, mutatedJson, mutatedText } from "../torture/fuzz/mutate.ts";
import { TARGETS } from "../torture/fuzz/registry.ts";
import { shares } from "../torture/fuzz/run.ts";
import { ensure, type Subject, target } from "../torture/fuzz/target.ts";
import { parsed } from "../torture/fuzz/verdict.ts";
import { checkServerFrames, frame, OPCODE } from "../torture/fuzz/web-socket-frames.ts";
import { answersIn, judge } from "../torture/fuzz/wire.ts";

/** Over all targets; `npm run torture` tries a hundred times as many, with another seed each time. */
const INPUTS = 2_500;
const SEED = 1;

describe("parsers of bytes from outside", { timeout: 300_000 }, () => {
  for (const [one, inputs] of shares(TARGETS, INPUTS)) {
    test(`${one.name}: ${one.summary}`, { skip: one.unavailable?.() ?? false }, async () => {
      const report = await runTarget(one, { seed: SEED, inputs, leaks: false });
      assert.deepEqual(report.faults, []);
      assert.equal(report.accepted + report.refused, inputs);
    });
  }
});

describe("the trial itself", () => {
  const inputs = 400;
  const options = { seed: 3, inputs, leaks: false };
  /** A parser of numbers that goes wrong at those that the condition names. */
  const faulty = (run: Subject<number>["run"], name = "faulty") =>
    target<number>({ name, summary: "", weight: 1 }, () => ({ input: (random) => random.below(100), run }));

  test("sees a parser that throws anything but a documented error", async () => {
    const one = faulty((number) => parsed(() => (number === 7 ? (undefined as unknown as string).length : number)));
    const { faults, accepted } = await runTarget(one, options);
    assert.ok(faults.length > 0 && accepted === inputs - faults.length);
    assert.deepEqual(new Set(faults.map(({ kind, input }) => `${kind} ${input}`)), new Set(["crash 7"]));
    const alone = await runTarget(one, { ...options, only: faults[0]?.index });
    assert.deepEqual([alone.inputs, alone.faults.length], [1, 1], "one input says it again");
  });

  test("sees a value that must not be", async () => {
    const report = await runTarget(
      faulty((number) =>
        parsed(
          () => number,
          (value) => ensure(value !== 9, () => "nine"),
        ),
      ),
      options,
    );
    assert.deepEqual(new Set(report.faults.map(({ kind }) => kind)), new Set(["wrong"]));
  });

  test("sees what never ends, and what holds everything else up", async () => {
    const waiting = await runTarget(
      faulty((number) => (number === 7 ? new Promise(() => {}) : "accepted")),
      { ...options, hangMs: 20 },
    );
    assert.deepEqual(new Set(waiting.faults.map(({ kind, input }) => `${kind} ${input}`)), new Set(["hang 7"]));
    const busy = faulty(() => {
      const end = process.threadCpuUsage().user + 2_000_000;
      while (process.threadCpuUsage().user < end) {}
      return "accepted";
    });
    const { faults } = await runTarget(busy, { ...options, inputs: 1 });
    assert.equal(faults[0]?.kind, "hang");
  });

  test("sees what is not given back", { timeout: 60_000 }, async () => {
    const kept: Buffer[] = [];
    const memory = await runTarget(
      faulty(() => {
        kept.push(Buffer.alloc(64 * 1024));
        return "accepted";
      }),
      { ...options, leaks: true },
    );
    assert.deepEqual(
      memory.faults.map(({ kind }) => kind),
      ["leak"],
    );
    const clean = await runTarget(
      faulty(() => {
        Buffer.alloc(64 * 1024);
        return "accepted";
      }),
      { ...options, leaks: true },
    );
    assert.deepEqual(clean.faults, []);
  });

  test("sees a server that failed, and errors that no page documents", () => {
    const answer = (status: number, body: string) =>
      answersIn(Buffer.from(`HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`));
    assert.equal(judge(answer(400, '{"error":"invalid_request","message":"m"}')), "refused");
    assert.equal(judge(answer(200, "{}")), "accepted");
    assert.equal(judge(answer(502, '{"error":"nothing_listens"}'), ["nothing_listens"]), "refused");
    assert.throws(() => judge(answer(500, '{"error":"internal"}')), { kind: "5xx" });
    assert.throws(() => judge(answer(400, '{"error":"oops"}')), { kind: "wrong" });
    assert.throws(() => judge(answer(400, "{")), { kind: "wrong" });
    checkServerFrames(frame(OPCODE.close, Buffer.of(3, 232), { masked: false }));
    assert.throws(() => checkServerFrames(frame(OPCODE.close, Buffer.of(3, 243), { masked: false })), { kind: "5xx" });
    assert.throws(() => checkServerFrames(frame(OPCODE.text, Buffer.from("x"))), { kind: "wrong" });
  });

  test("makes the same inputs of the same seed, and others of another", () => {
    const made = (seed: number, make: (random: Random) => unknown) =>
      JSON.stringify(Array.from({ length: 200 }, (_, index) => make(randomFor(seed, "name", index))));
    for (const make of [
      (random: Random) => mutated(random, [Buffer.from("GET / HTTP/1.1\r\n\r\n")]).toString("latin1"),
      (random: Random) => mutatedText(random, ["a=b&c=d"]),
      (random: Random) => mutatedJson(random, { a: [1, "b"], c: { d: null } }),
    ]) {
      assert.equal(made(1, make), made(1, make));
      assert.notEqual(made(1, make), made(2, make));
    }
  });
});
