import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { encodeRange } from "../src/helper/byte-range.ts";
import { nextFrame } from "../src/helper/connection.ts";
import { encodeFrame, FrameDecoder, ItemWriter } from "../src/helper/frames.ts";
import type { FileComparison } from "../src/helper/index.ts";
import { CLIENT_FRAME, COMPARE_FLAG, REQUEST, SERVER_FRAME, TAG } from "../src/helper/wire.ts";
import { type RunningHelper, startHelper, waitFor } from "./support/helper.ts";

const MIB = 1024 * 1024;
const errno = (expected: number) => (error: unknown) => error instanceof HobError && error.details.errno === expected;
const [ENOENT, EPROTO, EINVAL] = [2, 71, 22];

/** In a file of 4 MiB, towards its end: what is said meanwhile has come by then. */
const CHANGED_AT = 4 * MIB - 100;

/** More extents than one call of the kernel tells: holes are between them. */
const PIECES = 300;
const PIECE_STEP = 8192;

let helper: RunningHelper;
let directory = "";
before(async () => {
  helper = await startHelper();
  directory = mkdtempSync(join(tmpdir(), "hob-compared-"));
});
after(async () => {
  await helper[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
  assert.equal(helper.stderr(), "", "no sanitizer report");
});

const at = (...names: string[]): Buffer => Buffer.from(join(directory, ...names));
function writeAt(path: Buffer, offset: number, bytes: string | Buffer): void {
  const file = openSync(path, "r+");
  writeSync(file, Buffer.from(bytes), 0, bytes.length, offset);
  closeSync(file);
}

describe("the content of two files", () => {
  const [one, other] = [() => at("one"), () => at("other")];
  const same = async (onRead?: (bytes: number) => void) => {
    using comparison = await helper.client.compare();
    return await comparison.sameContent(one(), other(), false, onRead);
  };

  test("is read to its end, and said how far", async () => {
    const bytes = Buffer.alloc(17 * MIB, "abc");
    for (const path of [one(), other()]) writeFileSync(path, bytes);
    const told: number[] = [];
    assert.equal(await same((read) => told.push(read)), true);
    assert.deepEqual(told, [8 * MIB, 16 * MIB]);
    writeAt(other(), bytes.length - 1, "X");
    assert.equal(await same(), false);
    writeFileSync(other(), bytes.subarray(1));
    assert.equal(await same(), false);
    for (const path of [one(), other()]) writeFileSync(path, "");
    assert.equal(await same(), true);
  });

  test("is not read where both have holes, and a hole is as good as zeros", async () => {
    for (const path of [one(), other()]) {
      writeFileSync(path, "begin");
      truncateSync(path, 2 ** 40);
      writeAt(path, 2 ** 39 + 5, "middle");
    }
    // At the speed of memory this would take minutes, and the test has a limit.
    const told: number[] = [];
    assert.equal(await same((read) => told.push(read)), true);
    assert.deepEqual(told, []);
    writeAt(one(), 2 ** 38, Buffer.alloc(64 * 1024));
    assert.equal(await same(), true);
    writeAt(one(), 2 ** 38 + 70_000, "x");
    assert.equal(await same(), false);
  });

  test("of what is no file is an error, and a link is not followed", async () => {
    writeFileSync(one(), "x");
    for (const [make, expected] of [
      [() => mkdirSync(other()), EINVAL],
      [() => symlinkSync(one(), other()), 40],
      [() => {}, ENOENT],
    ] as const) {
      rmSync(other(), { recursive: true, force: true });
      make();
      await assert.rejects(same(), errno(expected));
    }
  });

  test("is given up in the middle, on both sides", async () => {
    for (const path of [one(), other()]) {
      rmSync(path, { recursive: true, force: true });
      writeFileSync(path, Buffer.alloc(32 * MIB, "abc"));
    }
    const comparison = await helper.client.compare();
    const end = comparison.sameContent(one(), other(), false, () => comparison[Symbol.dispose]());
    await assert.rejects(end, { code: "helper_unreachable" });
    const children = () => readFileSync(`/proc/${helper.process.pid}/task/${helper.process.pid}/children`, "utf8").trim();
    await waitFor(() => children() === "", "the end of the helper's process");
  });
});

describe("files on two devices that are copies", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  let mounts: string[] = [];
  let comparison: FileComparison;
  const [one, other] = [() => at("before", "file"), () => at("after", "file")];
  const mount = (name: string) => {
    const path = at(name).toString();
    mkdirSync(path);
    execFileSync("mount", ["-o", "loop", at(`${name}.img`).toString(), path]);
    mounts.push(path);
  };

  before(async () => {
    const image = at("before.img").toString();
    writeFileSync(image, "");
    truncateSync(image, 32 * MIB);
    execFileSync("mkfs.ext4", ["-q", image]);
    mount("before");
    writeFileSync(one(), Buffer.alloc(4 * MIB, "abc"));
    writeFileSync(at("before", "scattered"), "");
    for (let piece = 0; piece < PIECES; piece++) writeAt(at("before", "scattered"), piece * PIECE_STEP, Buffer.alloc(4096, "abc"));
    writeFileSync(at("before", "emptied"), Buffer.alloc(MIB, "abc"));
    execFileSync("umount", [at("before").toString()]);
    rmSync(at("before"), { recursive: true });
    mounts = [];
    cpSync(image, at("after.img").toString());
    mount("before");
    mount("after");
    // In place: the file lies where it lay.
    writeAt(other(), CHANGED_AT, "changed");
    writeAt(at("after", "scattered"), (PIECES - 1) * PIECE_STEP, "changed");
    for (const path of [one(), other(), at("after", "scattered")]) execFileSync("sync", [path.toString()]);
  });
  after(() => {
    for (const path of mounts) execFileSync("umount", [path]);
  });
  beforeEach(async () => {
    comparison = await helper.client.compare();
  });
  afterEach(() => comparison[Symbol.dispose]());

  /** Where the second one was changed, on its device. */
  function placeOf(offset: number, file = other()): number {
    const text = execFileSync("filefrag", ["-b1", "-v", file.toString()], { encoding: "utf8" });
    for (const [, first = "", last = "", place = ""] of text.matchAll(/^ *\d+: *(\d+)\.\. *(\d+): *(\d+)\.\./gm)) {
      if (offset >= Number(first) && offset <= Number(last)) return Number(place) + offset - Number(first);
    }
    throw new Error(`no extent at ${offset}: ${text}`);
  }

  test("are read as a whole as long as nobody knows what changed", async () => {
    assert.equal(await comparison.sameContent(one(), other(), true), false);
  });

  test("are not read where the devices are said to be the same", async () => {
    comparison.tellChanges([]);
    // Which is not true here: so nothing can have been read.
    assert.equal(await comparison.sameContent(one(), other(), true), true);
    assert.equal(await comparison.sameContent(one(), other(), false), false, "what lies elsewhere is read");
  });

  /** The answer for the pair, when these frames are sent at once. */
  async function answerTo(before: readonly Buffer[], after: readonly Buffer[]): Promise<boolean> {
    const path = (tag: number, name: Buffer) => new ItemWriter().bytes(tag, Buffer.concat([name, Buffer.of(0)])).finish();
    const flags = new ItemWriter().u32(TAG.fileFlags, COMPARE_FLAG.onDevices).finish();
    const socket = connect(helper.socketPath);
    const content = Buffer.concat([path(TAG.path, one()), path(TAG.destination, other()), flags]);
    socket.write(Buffer.concat([encodeFrame(REQUEST.compare), ...before, encodeFrame(CLIENT_FRAME.content, content), ...after]));
    const decoder = new FrameDecoder();
    const [ready, told] = [await nextFrame(socket, decoder, 10_000), decoder.next() ?? (await nextFrame(socket, decoder, 10_000))];
    socket.destroy();
    assert.deepEqual([ready.type, ready.payload.length, told.type], [SERVER_FRAME.ok, 0, SERVER_FRAME.ok]);
    return told.payload[0] === 1;
  }

  test("are not read any more as soon as that is said, and not before all is said", async () => {
    const [range, end] = [encodeFrame(CLIENT_FRAME.changes, encodeRange({ begin: 0, length: 1 })), encodeFrame(CLIENT_FRAME.changes)];
    // In one write: it is there when the comparison begins, and not taken before.
    assert.equal(await answerTo([], [range, end]), true);
    assert.equal(await answerTo([range, end], []), true);
    assert.equal(await answerTo([range], []), false);
    assert.equal(await answerTo([], [range]), false);
  });

  test("are read where the devices differ in more places than a frame holds", async () => {
    const ranges = Array.from({ length: 5_000 }, (_, begin) => ({ begin, length: 1 }));
    comparison.tellChanges(ranges);
    assert.equal(await comparison.sameContent(one(), other(), true), true);
    using compared = await helper.client.compare();
    compared.tellChanges([...ranges, { begin: placeOf(CHANGED_AT), length: 1 }]);
    assert.equal(await compared.sameContent(one(), other(), true), false);
  });

  test("are read where the devices differ, and around it not", async () => {
    const place = placeOf(CHANGED_AT);
    for (const [ranges, same] of [
      [[{ begin: place, length: 1 }], false],
      [
        [
          { begin: 0, length: 1 },
          { begin: place - 4096, length: 4097 },
          { begin: 31 * MIB, length: MIB },
        ],
        false,
      ],
      [[{ begin: place - MIB, length: 10 }], true],
    ] as const) {
      using compared = await helper.client.compare();
      compared.tellChanges(ranges);
      assert.equal(await compared.sameContent(one(), other(), true), same);
    }
  });

  test("are found in as many pieces as they have", async () => {
    const pair = [at("before", "scattered"), at("after", "scattered")] as const;
    const place = placeOf((PIECES - 1) * PIECE_STEP, pair[1]);
    for (const [ranges, same] of [
      [[], true],
      [[{ begin: place, length: 1 }], false],
    ] as const) {
      using compared = await helper.client.compare();
      compared.tellChanges(ranges);
      assert.equal(await compared.sameContent(...pair, true), same);
    }
  });

  test("are read where their blocks stayed, and do not count any more", async () => {
    const [full, emptied] = [at("before", "emptied"), at("after", "emptied")];
    comparison.tellChanges([]);
    assert.equal(await comparison.sameContent(full, emptied, true), true);
    // The extent becomes an unwritten one, in the same place: fallocate(2), FALLOC_FL_ZERO_RANGE.
    execFileSync("fallocate", ["--zero-range", "--offset", "524288", "--length", "65536", emptied.toString()]);
    execFileSync("sync", [emptied.toString()]);
    assert.equal(await comparison.sameContent(full, emptied, true), false);
  });

  test("are read where they lie in different places", async () => {
    writeFileSync(at("after", "again"), Buffer.alloc(4 * MIB, "abc"));
    execFileSync("sync", [at("after", "again").toString()]);
    comparison.tellChanges([]);
    assert.equal(await comparison.sameContent(one(), at("after", "again"), true), true);
    writeAt(at("after", "again"), 3 * MIB, "X");
    assert.equal(await comparison.sameContent(one(), at("after", "again"), true), false);
  });

  test("ranges that do not follow each other are refused", async () => {
    for (const ranges of [
      [
        { begin: 10, length: 5 },
        { begin: 14, length: 1 },
      ],
      [{ begin: 10, length: 0 }],
    ]) {
      using compared = await helper.client.compare();
      compared.tellChanges(ranges);
      await assert.rejects(compared.sameContent(one(), other(), true), errno(EINVAL));
    }
  });
});

test("a path that is none is refused", async () => {
  using comparison = await helper.client.compare();
  await assert.rejects(comparison.attributes(Buffer.from("/a\0b"), Buffer.from("/")), errno(EPROTO));
});
