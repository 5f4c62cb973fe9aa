import assert from "node:assert/strict";
import { test } from "node:test";
import type { HelperClient, HelperProcess, OutputSink } from "../src/helper/index.ts";
import { ChangedBlocks } from "../src/volume/changed-blocks.ts";

const DELTA =
  '<superblock><diff left="1" right="2"><different begin="5" length="2"/><right_only begin="9" length="1"/></diff></superblock>';

/** A helper whose thin_delta says this and ends with that; `asked` is what was asked of the pool. */
function helperThat(says: string, code = 0) {
  const asked: string[] = [];
  const exec = async () => {
    const exited = Promise.withResolvers<{ code: number }>();
    const process = {
      start: ({ stdout }: OutputSink) => {
        queueMicrotask(() => {
          stdout(Buffer.from(says));
          exited.resolve({ code });
        });
      },
      exited: exited.promise,
      end: () => {},
      pause: () => {},
      resume: () => {},
      close: () => {},
    };
    return process as unknown as HelperProcess;
  };
  const dmMessage = async (_pool: string, text: string) => void asked.push(text);
  return { asked, helper: { exec, dmMessage } as Pick<HelperClient, "exec" | "dmMessage"> };
}

test("whoever takes ranges slowly keeps nobody waiting once the tool has told them", { timeout: 10_000 }, async () => {
  const { helper, asked } = helperThat(DELTA);
  const changes = new ChangedBlocks(helper, "pool");
  const slow = changes.between(1, 2);
  assert.deepEqual((await slow.next()).value, { begin: 5, length: 2, mapped: true });
  const all = [];
  for await (const range of changes.between(1, 2)) all.push(range.begin);
  assert.deepEqual(all, [5, 9]);
  assert.equal(changes.isBusy, false);
  assert.deepEqual((await slow.next()).value, { begin: 9, length: 1, mapped: true });
  assert.equal((await slow.next()).done, true);
  assert.equal(asked.filter((text) => text === "reserve_metadata_snap").length, 2);
  assert.equal(asked.at(-1), "release_metadata_snap");
});

test("a tool that fails is an error, and the next has its turn", async () => {
  const changes = new ChangedBlocks(helperThat(DELTA, 1).helper, "pool");
  for (let i = 0; i < 2; i++) {
    await assert.rejects(async () => {
      for await (const _ of changes.between(1, 2));
    }, /thin_delta ended with 1/);
    assert.equal(changes.isBusy, false);
  }
});

test("an output that ends in the middle is an error", async () => {
  const changes = new ChangedBlocks(helperThat(DELTA.slice(0, -20)).helper, "pool");
  await assert.rejects(async () => {
    for await (const _ of changes.between(1, 2));
  }, /thin_delta ended/);
});

test("a tool that says nothing is ended, and none that waits for whoever takes what it says", { timeout: 10_000 }, async ({ mock }) => {
  mock.timers.enable({ apis: ["setInterval"] });
  let sink: OutputSink | undefined;
  const exited = Promise.withResolvers<{ code: number }>();
  const done: string[] = [];
  const process = {
    start: (given: OutputSink) => {
      sink = given;
    },
    exited: exited.promise,
    end: () => {},
    pause: () => void done.push("pause"),
    resume: () => void done.push("resume"),
    close: () => {
      done.push("close");
      exited.reject(new Error("closed"));
    },
  };
  const helper = { exec: async () => process, dmMessage: async () => {} } as unknown as Pick<HelperClient, "exec" | "dmMessage">;
  const ranges = new ChangedBlocks(helper, "pool").between(1, 2);
  const first = ranges.next();
  while (sink === undefined) await new Promise(setImmediate);
  const many = 65_537;
  sink.stdout(Buffer.from(`<diff left="1" right="2">${'<different begin="1" length="1"/>'.repeat(many)}`));
  await first;
  for (let i = 0; i < 3; i++) mock.timers.tick(600_000);
  for (let i = 1; i < many; i++) await ranges.next();
  assert.deepEqual(done, ["pause"]);
  const next = assert.rejects(ranges.next(), /closed/);
  await new Promise(setImmediate);
  mock.timers.tick(600_000);
  await next;
  assert.deepEqual(done.slice(0, 3), ["pause", "resume", "close"]);
});

test("more than can be kept stops the tool until it was taken", { timeout: 30_000 }, async () => {
  const exited = Promise.withResolvers<{ code: number }>();
  const calls: string[] = [];
  let say: (text: string) => void = () => {};
  const runs = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => `<different begin="${(from + i) * 2}" length="1"/>`).join("");
  const process = {
    start: ({ stdout }: OutputSink) => {
      say = (text) => stdout(Buffer.from(text));
      queueMicrotask(() => say(`<superblock><diff>${runs(0, 70_000)}`));
    },
    exited: exited.promise,
    end: () => {},
    pause: () => void calls.push("pause"),
    resume: () => {
      calls.push("resume");
      say(`${runs(70_000, 10)}</diff></superblock>`);
      exited.resolve({ code: 0 });
    },
    close: () => {},
  };
  const helper = { exec: async () => process as unknown as HelperProcess, dmMessage: async () => {} };
  let expected = 0;
  for await (const { begin } of new ChangedBlocks(helper, "pool").between(1, 2)) {
    assert.equal(begin, 2 * expected++);
    if (expected < 70_000) assert.deepEqual(calls, ["pause"]);
  }
  assert.equal(expected, 70_010);
  assert.deepEqual(calls, ["pause", "resume"]);
});
