import assert from "node:assert/strict";
import { appendFileSync, chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { Journal, type JournalLimits, JournalStore } from "../src/exec/journal/index.ts";
import { decodeRecords } from "../src/exec/journal/records.ts";
import { OutputReader } from "../src/exec/output-reader.ts";
import { SessionOutput } from "../src/exec/session-output.ts";
import { waitFor } from "./support/helper.ts";

const root = mkdtempSync(join(tmpdir(), "hob-journal-"));
after(() => rmSync(root, { recursive: true, force: true }));
let directories = 0;
const directory = (): string => join(root, String(++directories));

/** Small, so that every border is met often. */
const SMALL: JournalLimits = { segmentBytes: 300, diskBytes: 1_500, memoryBytes: 400, flushBytes: 150, flushDelayMs: 1 };

/** All output that was ever written, as bytes with the stream of each. */
class Model {
  readonly bytes: number[] = [];
  readonly streams: number[] = [];

  append(stream: number, data: Buffer): void {
    for (const byte of data) {
      this.bytes.push(byte);
      this.streams.push(stream);
    }
  }
}

interface Got {
  bytes: number[];
  streams: number[];
  exit: number | undefined;
  cut: string | undefined;
}

/** A reader that takes `burst` records, then waits to be woken. */
function readFrom(journal: Journal, offset: number, burst = Number.POSITIVE_INFINITY): { got: Got; reader: OutputReader } {
  const got: Got = { bytes: [], streams: [], exit: undefined, cut: undefined };
  let taken = 0;
  const reader = new OutputReader(
    journal,
    {
      output(stream, data) {
        for (const byte of data) {
          got.bytes.push(byte);
          got.streams.push(stream);
        }
        taken += 1;
        return taken % burst !== 0;
      },
      ended: (code) => {
        got.exit = code;
      },
      cut: (reason) => {
        got.cut = reason;
      },
      inputDrained: () => {},
    },
    offset,
  );
  reader.start();
  return { got, reader };
}

const wakeUntil = (reader: OutputReader, isDone: () => boolean): Promise<void> =>
  waitFor(() => {
    reader.wake();
    return isDone();
  }, "the reader");

const settled = (journal: Journal): Promise<void> => journal.dropOldest().then(() => {});

const piece = fc.record({ stream: fc.constantFrom(1, 2), size: fc.integer({ min: 1, max: 260 }) });
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), piece }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("read" as const), at: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("drop" as const) }) },
);

describe("journal against a model", () => {
  test("readers at any offset get exactly what was written from there on; only the oldest is missing", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), fc.integer({ min: 0, max: 255 }), async (steps, code) => {
        const journal = new Journal(directory(), SMALL);
        const model = new Model();
        const readers: { from: number; got: Got; reader: OutputReader }[] = [];
        const write = ({ stream, size }: { stream: number; size: number }) => {
          const data = Buffer.from(Array.from({ length: size }, (_, i) => (model.bytes.length + i) & 0xff));
          model.append(stream, data);
          journal.append(stream, data);
          for (const { reader } of readers) reader.pump();
        };
        journal.pinned = () => Math.min(...readers.map(({ reader }) => reader.offset), Number.POSITIVE_INFINITY);
        for (const one of steps) {
          if (one.kind === "write") write(one.piece);
          else if (one.kind === "read") {
            const from = journal.start + Math.floor(one.at * (journal.end - journal.start));
            readers.push({ from, ...readFrom(journal, from, 3) });
          } else {
            // Waits for writes under way as well.
            await journal.dropOldest();
            for (const { reader } of readers) reader.wake();
          }
          assert.equal(journal.end, model.bytes.length);
        }
        await journal.finish(code);
        for (const { from, got, reader } of readers) {
          await wakeUntil(reader, () => got.exit !== undefined || got.cut !== undefined);
          assert.deepEqual([got.cut, got.exit], [undefined, code]);
          assert.deepEqual(got.bytes, model.bytes.slice(from));
          assert.deepEqual(got.streams, model.streams.slice(from));
        }
        const late = readFrom(journal, journal.start).got;
        await waitFor(() => late.exit !== undefined, "end of the late reader");
        assert.deepEqual(late.bytes, model.bytes.slice(journal.start));
        assert.ok(journal.diskBytes <= SMALL.diskBytes + SMALL.segmentBytes + 300);
        await journal.remove();
      }),
      { numRuns: 60, seed: 4 },
    );
  });

  test("a crash at any byte: what was whole is there, at its offset, and writing goes on", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { minLength: 1, maxLength: 20 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom("cut", "zeros", "junk"),
        async (pieces, where, damage) => {
          const path = directory();
          const journal = new Journal(path, { ...SMALL, flushBytes: 1, diskBytes: 1e6 });
          const model = new Model();
          for (const { stream, size } of pieces) {
            const data = Buffer.from(Array.from({ length: size }, (_, i) => (model.bytes.length + i) & 0xff));
            model.append(stream, data);
            journal.append(stream, data);
          }
          await settled(journal);
          await settled(journal);
          const files = readdirSync(path).sort();
          const last = join(path, files.at(-1) ?? "");
          if (damage === "cut") truncateSync(last, Math.floor(statSync(last).size * where));
          if (damage === "zeros") appendFileSync(last, Buffer.alloc(50));
          if (damage === "junk") appendFileSync(last, Buffer.from([9, 1, 0, 0, 0, 7]));
          const again = await Journal.recover(path, SMALL);
          assert.ok(again.end <= model.bytes.length);
          assert.equal(again.exitCode, undefined);
          const more = Buffer.from("after");
          again.append(1, more);
          await again.finish(255);
          const { got } = readFrom(again, again.start);
          await waitFor(() => got.exit !== undefined, "end");
          assert.deepEqual(got.bytes, [...model.bytes.slice(again.start, again.end - more.length), ...more]);
          await again.remove();
          // Closes its file; the crashed one has no more to do.
          await journal.remove();
        },
      ),
      { numRuns: 60, seed: 4 },
    );
  });

  test("damaged bytes are never taken for records", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(), (bytes, offset) => {
        const decoded = decodeRecords(Buffer.from(bytes), offset);
        assert.ok(decoded.bytes <= bytes.length);
        assert.equal(
          decoded.end - offset,
          decoded.records.reduce((sum, { data }) => sum + data.length, 0),
        );
      }),
    );
  });
});

describe("journal", () => {
  const unpinned = () => Number.POSITIVE_INFINITY;

  test("little output of a short session never touches the disk", async () => {
    const path = directory();
    const journal = new Journal(path);
    journal.append(1, Buffer.from("hello"));
    await journal.finish(0);
    assert.throws(() => statSync(path), { code: "ENOENT" });
    const { got } = readFrom(journal, 2);
    assert.deepEqual([Buffer.from(got.bytes).toString(), got.exit], ["llo", 0]);
  });

  test("what nobody has read yet is never dropped: the journal is full until it is read", async () => {
    const journal = new Journal(directory(), SMALL);
    const { got, reader } = readFrom(journal, 0, 1);
    journal.pinned = () => reader.offset;
    reader.onProgress = () => journal.trim();
    let written = 0;
    while (!journal.isFull) {
      journal.append(1, Buffer.alloc(100, written));
      written += 100;
      await settled(journal);
    }
    assert.ok(written < 5_000);
    assert.equal(journal.start, 0);
    await wakeUntil(reader, () => got.bytes.length === written);
    await waitFor(() => !journal.isFull, "room");
    await journal.remove();
  });

  test("a disk that fails costs old output, not the session", async () => {
    const path = directory();
    writeFileSync(path, "a file where the folder should be");
    const journal = new Journal(path, SMALL);
    journal.pinned = unpinned;
    let failure: string | undefined;
    journal.onFailure = ({ code }) => {
      failure = code;
    };
    for (let i = 0; i < 50; i++) {
      journal.append(1, Buffer.alloc(100, i));
      await settled(journal);
      assert.equal(journal.isFull, false);
    }
    assert.equal(failure, "EEXIST");
    await journal.finish(7);
    const { got } = readFrom(journal, 0);
    await waitFor(() => got.exit !== undefined, "end");
    assert.equal(got.exit, 7);
    assert.ok(got.bytes.length >= 100 && got.bytes.every((byte) => byte > 40));
  });
});

describe("a client that takes nothing", () => {
  const stuck = () => {
    const client = {
      cutFor: "",
      output: () => false,
      ended: () => {},
      cut: (reason: string) => (client.cutFor = reason),
      inputDrained: () => {},
    };
    return client;
  };
  const fill = async (output: SessionOutput) => {
    while (!output.isFull) {
      output.append(1, Buffer.alloc(100));
      await settled(output.journal);
    }
  };

  test("holds up a command that needs it, as the reader of a pipe does", async () => {
    const output = new SessionOutput(new Journal(directory(), SMALL), { stallMs: 10, checkMs: 5 });
    output.mayCut = () => false;
    const client = stuck();
    output.addReader(client, 0).start();
    await fill(output);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual([client.cutFor, output.isFull], ["", true]);
    output.removeReader(client);
    await waitFor(() => !output.isFull, "room");
    await output.journal.remove();
  });

  test("is cut off where the command would go on without it, and the command goes on", async () => {
    const output = new SessionOutput(new Journal(directory(), SMALL), { stallMs: 10, checkMs: 5 });
    const client = stuck();
    let wasFull = false;
    output.onFlow = () => {
      wasFull = output.isFull;
    };
    output.addReader(client, 0).start();
    await fill(output);
    await waitFor(() => client.cutFor !== "", "the cut");
    await waitFor(() => !wasFull, "the command is told that there is room");
    assert.equal(output.readerCount, 0);
    await output.journal.remove();
  });
});

describe("store", () => {
  const about = { command: "x", workdir: "/", created: 1 };

  test("ids are never used twice, also when the pilot was killed", async () => {
    const path = directory();
    const first = new JournalStore(path);
    await first.open(1e6);
    const ids = [first.nextId(), first.nextId()];
    assert.deepEqual(ids, ["1", "2"]);
    const second = new JournalStore(path);
    await second.open(1e6);
    const next = Number(second.nextId());
    assert.ok(next > 2);
    let last = next;
    for (let i = 0; i < 5_000; i++) last = Number(second.nextId());
    const reserved = () => (JSON.parse(readFileSync(join(path, "ids.json"), "utf8")) as { reserved: number }).reserved;
    // Only the last of its writes is so far ahead: the next store is to find none of them under way.
    await waitFor(() => reserved() >= last + 500, "reserved ids");
    const third = new JournalStore(path);
    await third.open(1e6);
    assert.ok(Number(third.nextId()) > last);
  });

  test("what a killed pilot left is found; what is old or damaged is removed", async () => {
    const path = directory();
    const killed = new JournalStore(path, { limits: SMALL });
    await killed.open(1e6);
    const kept = killed.create(killed.nextId(), about);
    kept.append(1, Buffer.alloc(400, 7));
    await settled(kept);
    await settled(kept);
    chmodSync(path, 0o700);
    const found = await new JournalStore(path, { limits: SMALL }).open(1e6);
    assert.deepEqual(
      found.map(({ id, about: { command }, journal }) => [id, command, journal.end]),
      [["1", "x", 400]],
    );
    writeFileSync(join(path, "1", "session.json"), "{");
    assert.deepEqual(await new JournalStore(path, { limits: SMALL }).open(1e6), []);
    assert.throws(() => statSync(join(path, "1")), { code: "ENOENT" });
    const old = killed.create("77", about);
    old.append(1, Buffer.alloc(400));
    await settled(old);
    assert.deepEqual(await new JournalStore(path).open(-1), []);
    await Promise.all([kept.remove(), old.remove()]);
  });

  test("all together stay within their bound: ended ones go first, then the oldest parts", async () => {
    const store = new JournalStore(directory(), { limits: SMALL, totalBytes: 2_500 });
    await store.open(1e6);
    const [ended, large, small] = ["1", "2", "3"].map((id) => store.create(id, about));
    assert.ok(ended && large && small);
    for (const journal of [ended, large, small]) journal.onWritten = () => void store.keepWithinBudget();
    for (let i = 0; i < 12; i++) ended.append(1, Buffer.alloc(100));
    await ended.finish(0);
    for (let i = 0; i < 14; i++) {
      large.append(1, Buffer.alloc(100));
      if (i < 12) small.append(1, Buffer.alloc(100));
      await settled(small);
    }
    // Before all of it is written there may be room with the first one, too.
    await waitFor(() => store.diskBytes <= 2_500 && ended.diskBytes === 0, "room");
    assert.equal(ended.exitCode, 0, "its status is still known");
    assert.ok(large.diskBytes > 0 && small.diskBytes > 0);
    for (const id of ["1", "2", "3"]) await store.remove(id);
    assert.equal(store.diskBytes, 0);
  });
});
