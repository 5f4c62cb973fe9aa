import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { LINE_BYTES_MAX, LineSplitter } from "../src/logs/line-splitter.ts";
import { LogDirectory } from "../src/logs/log-directory.ts";
import { LogFile } from "../src/logs/log-file.ts";
import { readBlocks } from "../src/logs/log-reader.ts";
import { formatBlock, type LogBlock, parseRecords } from "../src/logs/record.ts";
import { WriteQueue } from "../src/logs/write-queue.ts";

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const logBlock: fc.Arbitrary<LogBlock> = fc.record({
  stream: fc.constantFrom("stdout" as const, "stderr" as const),
  text: bytes(60).map((text) => Buffer.concat([text, Buffer.from("\n")])),
  timeMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
});
const line = (text: string, stream: LogBlock["stream"] = "stdout"): LogBlock => ({
  stream,
  text: Buffer.from(`${text}\n`),
  timeMs: 1_780_420_274_555,
});
const linesOf = (text: Buffer): string[] => text.toString().split("\n").slice(0, -1);

class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hob-logs-"));
  at(name: string): string {
    return join(this.path, name);
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

async function textsOf(log: LogFile, last?: number): Promise<string[]> {
  const texts: string[] = [];
  for await (const { text } of readBlocks(await log.snapshot(), last)) texts.push(...linesOf(text));
  return texts;
}

describe("records", () => {
  test("records hold what was put in, whatever bytes they are, one line each", () => {
    fc.assert(
      fc.property(fc.array(logBlock), (blocks) => {
        const records = Buffer.concat(blocks.map(formatBlock)).toString("latin1");
        const flat = (all: readonly LogBlock[]) =>
          all.flatMap(({ stream, text, timeMs }) =>
            text
              .toString("latin1")
              .split("\n")
              .slice(0, -1)
              .map((words) => [stream, words, timeMs]),
          );
        assert.deepEqual(flat([...parseRecords(records)]), flat(blocks));
        assert.equal(records.split("\n").length - 1, flat(blocks).length);
      }),
    );
  });

  test("the form that users read", () => {
    assert.equal(
      formatBlock(line("Listening\nReady", "stderr")).toString(),
      "2026-06-02T17:11:14.555Z [stderr] Listening\n2026-06-02T17:11:14.555Z [stderr] Ready\n",
    );
  });

  test("what is no record is not taken for one", () => {
    const good = formatBlock(line("good")).toString();
    const bad = ["", "hello", "2026-06-02T17:11:14.555Z stderr x", "2026-06-02T17:11:14.555Z [stdout]", "no end"];
    const texts = [...parseRecords([good, ...bad.map((text) => `${text}\n`), good, "torn"].join(""))].map(({ text }) => text.toString());
    assert.deepEqual(texts, ["good\n", "good\n"]);
  });
});

describe("splitter", () => {
  test("lines do not depend on how the stream was cut into chunks", () => {
    fc.assert(
      fc.property(fc.array(bytes(40)), (chunks) => {
        const emitted: Buffer[] = [];
        const splitter = new LineSplitter((lines) => emitted.push(lines));
        for (const chunk of chunks) splitter.push(chunk);
        splitter.end();
        for (const lines of emitted) assert.equal(lines.at(-1), 0x0a);
        const all = Buffer.concat(chunks).toString("latin1");
        assert.equal(Buffer.concat(emitted).toString("latin1"), all === "" || all.endsWith("\n") ? all : `${all}\n`);
      }),
    );
  });

  test("a line without an end is cut, not kept for ever, and not inside of a character", () => {
    const text = `${"ü€𝄞".repeat(10_000)}\nshort\n${"x".repeat(LINE_BYTES_MAX)}\n${"y".repeat(LINE_BYTES_MAX + 1)}`;
    for (const size of [1_000, 100_000, 1_000_000]) {
      const emitted: Buffer[] = [];
      const splitter = new LineSplitter((lines) => emitted.push(lines));
      const bytesOfText = Buffer.from(text);
      for (let at = 0; at < bytesOfText.length; at += size) splitter.push(bytesOfText.subarray(at, at + size));
      splitter.end();
      const lines = linesOf(Buffer.concat(emitted));
      for (const part of lines) assert.ok(Buffer.byteLength(part) <= LINE_BYTES_MAX && !part.includes("\ufffd"));
      assert.equal(lines.join(""), text.replaceAll("\n", ""));
      assert.ok(lines.includes("short") && lines.includes("x".repeat(LINE_BYTES_MAX)) && lines.at(-1) === "y");
    }
  });
});

describe("log file", () => {
  test("the last lines are found, across rotated files too", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ maxLength: 30 }), { maxLength: 60 }),
        fc.integer({ min: 0, max: 70 }),
        fc.integer({ min: 50, max: 600 }),
        async (texts, last, fileBytes) => {
          using folder = new Folder();
          const log = new LogFile(folder.at("a.log"), new WriteQueue(), { fileBytes, files: 50 });
          const written = texts.map((text) => text.replaceAll("\n", " "));
          for (const [index, text] of written.entries()) {
            log.append(line(text));
            if (index % 7 === 0) await log.close();
          }
          assert.deepEqual(await textsOf(log), written);
          assert.deepEqual(await textsOf(log, last), last === 0 ? [] : written.slice(-last));
          await log.close();
        },
      ),
      { numRuns: 40 },
    );
  });

  test("it is bounded: the oldest part is dropped", async () => {
    using folder = new Folder();
    const log = new LogFile(folder.at("a.log"), new WriteQueue(), { fileBytes: 2_000, files: 3 });
    for (let i = 0; i < 1_000; i++) log.append(line(`line ${i}`));
    const kept = await textsOf(log);
    await log.close();
    assert.deepEqual(readdirSync(folder.path).sort(), ["a.log", "a.log.1", "a.log.2"]);
    for (const name of readdirSync(folder.path)) assert.ok(readFileSync(folder.at(name)).length <= 2_000, name);
    assert.equal(kept.at(-1), "line 999");
    assert.deepEqual(
      kept,
      Array.from({ length: kept.length }, (_, i) => `line ${1_000 - kept.length + i}`),
    );
  });

  test("a snapshot has the lines before it and none after it", async () => {
    using folder = new Folder();
    const log = new LogFile(folder.at("a.log"), new WriteQueue());
    log.append(line("before"));
    const snapshot = log.snapshot();
    log.append(line("after"));
    const texts: string[] = [];
    for await (const { text } of readBlocks(await snapshot)) texts.push(...linesOf(text));
    assert.deepEqual(texts, ["before"]);
    assert.deepEqual(await textsOf(log), ["before", "after"]);
    await log.close();
  });

  test("lines after a write that is done are written too", async () => {
    using folder = new Folder();
    const log = new LogFile(folder.at("a.log"), new WriteQueue());
    for (const text of ["one", "two", "three"]) {
      const drained = new Promise<void>((resolve) => log.onDrain(resolve));
      log.append(line(text));
      await drained;
    }
    assert.deepEqual(await textsOf(log), ["one", "two", "three"]);
    await log.close();
  });

  test("a record that a crash cut short does not swallow the next one", async () => {
    using folder = new Folder();
    writeFileSync(folder.at("a.log"), formatBlock(line("whole")));
    appendFileSync(folder.at("a.log"), "2026-06-02T17:11:14.555Z [stdout] torn");
    const log = new LogFile(folder.at("a.log"), new WriteQueue());
    log.append(line("next"));
    assert.deepEqual(await textsOf(log), ["whole", "torn", "next"]);
    await log.close();
  });

  test("lines that the disk refuses are counted and owned up to", async () => {
    using folder = new Folder();
    const log = new LogFile(folder.at("missing/a.log"), new WriteQueue());
    log.append(line("lost"));
    log.append(line("lost too"));
    await log.close();
    await new LogDirectory(folder.at("missing")).prepare();
    log.append(line("kept"));
    assert.deepEqual(await textsOf(log), ["hob: 2 lines could not be written here", "kept"]);
    await log.close();
  });

  test("a writer is told to pause while much waits, and to go on", async () => {
    using folder = new Folder();
    const queue = new WriteQueue();
    const log = new LogFile(folder.at("a.log"), queue);
    const blocked = Promise.withResolvers<void>();
    void queue.run(() => blocked.promise);
    const drained = new Promise<void>((resolve) => log.onDrain(resolve));
    const results = Array.from({ length: 80 }, () => log.append(line("x".repeat(16_000))));
    assert.equal(results[0], true);
    assert.equal(results.at(-1), false);
    blocked.resolve();
    await drained;
    assert.equal(log.append(line("again")), true);
    await log.close();
  });
});

test("logs of services that are no more are kept, but not without end", async () => {
  using folder = new Folder();
  const directory = new LogDirectory(folder.path);
  for (let i = 0; i < 40; i++) {
    writeFileSync(folder.at(`old-${i}.log`), "x");
    utimesSync(folder.at(`old-${i}.log`), 1_000 + i, 1_000 + i);
  }
  writeFileSync(folder.at("old-0.log.1"), "x");
  writeFileSync(folder.at("alive.log"), "x");
  utimesSync(folder.at("alive.log"), 1, 1);
  await directory.prune(new Set(["alive"]));
  const left = readdirSync(folder.path);
  assert.equal(left.length, 33);
  assert.ok(left.includes("alive.log") && left.includes("old-39.log") && !left.includes("old-0.log") && !left.includes("old-0.log.1"));
});
