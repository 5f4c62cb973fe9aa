import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { fileCopyRequest, fileListQuery, fileWatchRequest, fileWriteQuery, parseMode } from "@hob/protocol";
import fc from "fast-check";
import { fileErrorBody } from "../src/files/errors.ts";
import { absolutePath, lastPart, pathBelow } from "../src/files/paths.ts";
import { parseRange } from "../src/files/read.ts";
import { decodeEntries, decodeEvents } from "../src/helper/file-records.ts";
import { FileError } from "../src/helper/index.ts";

test("ranges: one is understood, anything else is as if not there", () => {
  assert.deepEqual(parseRange("bytes=0-9"), { offset: 0, length: 10 });
  assert.deepEqual(parseRange("bytes= 5 - "), { offset: 5 });
  assert.deepEqual(parseRange("bytes=-7"), { suffix: 7 });
  for (const other of [
    undefined,
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=9-1",
    "bytes=1-2,4-5",
    "bytes=a-b",
    `bytes=${"9".repeat(30)}-`,
  ]) {
    assert.equal(parseRange(other), undefined, other);
  }
  fc.assert(
    fc.property(fc.string(), (text) => {
      const range = parseRange(text);
      if (range !== undefined) for (const value of Object.values(range)) assert.ok(Number.isSafeInteger(value) && value >= 0);
    }),
  );
});

test("modes: text is octal, numbers are values unless no mode has them", () => {
  const cases: [string | number, number | undefined][] = [
    ["644", 0o644],
    ["0644", 0o644],
    ["0o4755", 0o4755],
    ["10000", undefined],
    ["8", undefined],
    ["", undefined],
    [" 644", undefined],
    [420, 0o644],
    [493, 0o755],
    [755, 0o755],
    [777, 0o777],
    [4755, 0o4755],
    [0o4755, 0o4755],
    [0, 0],
    [-1, undefined],
    [1.5, undefined],
    [99_999, undefined],
  ];
  for (const [given, wanted] of cases) assert.equal(parseMode(given), wanted, String(given));
  fc.assert(fc.property(fc.integer({ min: 0, max: 0o7777 }), (mode) => assert.equal(parseMode(mode.toString(8).padStart(4, "0")), mode)));
  fc.assert(fc.property(fc.integer({ min: 0, max: 0o777 }), (mode) => assert.equal(parseMode(mode), mode)));
});

test("paths are joined, never resolved", () => {
  assert.equal(absolutePath("a", undefined), "/home/sprite/a");
  assert.equal(absolutePath("a", "/srv"), "/srv/a");
  assert.equal(absolutePath("a", "sub"), "/home/sprite/sub/a");
  assert.equal(absolutePath("/a//b/./c", "/srv"), "/a/b/c");
  assert.equal(absolutePath("../x", "/srv"), "/srv/../x");
  assert.equal(absolutePath("a/", "/"), "/a/");
  assert.equal(absolutePath(".", "/"), "/");
  assert.equal(pathBelow("/", "x"), "/x");
  assert.equal(pathBelow("/a/", ""), "/a");
  assert.equal(lastPart("/a/b/"), "b");
  assert.equal(lastPart("/"), "/");
  fc.assert(
    fc.property(fc.string(), fc.string(), (path, dir) => {
      const joined = absolutePath(path, dir);
      assert.ok(joined.startsWith("/") && !joined.includes("//"));
      const ups = (text: string) => text.split("/").filter((part) => part === "..").length;
      assert.ok(ups(joined) <= ups(path) + ups(dir), "no step up is lost or made up");
    }),
  );
});

test("any parameters are accepted or refused, without an exception", () => {
  for (const schema of [fileListQuery, fileWriteQuery, fileCopyRequest, fileWatchRequest]) {
    fc.assert(fc.property(fc.object(), (value) => void schema.safeParse(value)));
  }
  assert.equal(fileWriteQuery.parse({ path: "x", mkdir: "1", mode: "0600" }).mkdir, true);
  assert.equal(fileCopyRequest.parse({ source: "a", dest: "b", asRoot: null, recursive: true }).asRoot, false);
});

test("records of the helper are decoded to their last byte, or refused as a whole", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const decode of [decodeEntries, decodeEvents]) {
        try {
          decode(Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof RangeError);
        }
      }
    }),
  );
});

test("a write to what is read-only says what to do instead", () => {
  const hintOf = (path: string) => fileErrorBody(new FileError(constants.errno.EROFS, path), "write").hint;
  assert.match(hintOf("/.sprite/checkpoints/v3/etc/hosts") ?? "", /hob restore NAME v3 --path/);
  assert.match(hintOf("/.sprite/checkpoints") ?? "", /belongs to the platform/);
  assert.match(hintOf("/mnt/.sprite/checkpoints/v3") ?? "", /mounted read-only/);
  assert.deepEqual(fileErrorBody(new FileError(constants.errno.EPERM, "/.sprite/x"), "write"), {
    error: "EPERM: operation not permitted, write '/.sprite/x'",
    code: "EPERM",
    path: "/.sprite/x",
  });
});
