import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { buildInitramfs, type InitramfsEntry } from "../src/initramfs.ts";

const FIELDS = [
  "inode",
  "mode",
  "uid",
  "gid",
  "links",
  "mtime",
  "size",
  "devMajor",
  "devMinor",
  "major",
  "minor",
  "nameSize",
  "check",
] as const;
const TYPE_MASK = 0o170000;
const TYPES = { file: 0o100000, directory: 0o040000, "character-device": 0o020000 } as const;
const HEADER_BYTES = 110;

type Fields = Record<(typeof FIELDS)[number], number>;
interface Found extends Fields {
  path: string;
  data: Buffer;
}

/** A reader that shares nothing with the writer: buffer-format.rst of the kernel. */
function readArchive(archive: Buffer): Found[] {
  const found: Found[] = [];
  for (let at = 0; ; ) {
    assert.equal(at % 4, 0, "headers are aligned");
    assert.equal(archive.toString("latin1", at, at + 6), "070701");
    const fields = FIELDS.map((name, index) => {
      const text = archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8);
      assert.match(text, /^[0-9a-f]{8}$/);
      return [name, Number.parseInt(text, 16)];
    });
    const entry = Object.fromEntries(fields) as Fields;
    const nameEnd = at + HEADER_BYTES + entry.nameSize;
    assert.equal(archive[nameEnd - 1], 0, "names end with a zero byte");
    const path = archive.toString("utf8", at + HEADER_BYTES, nameEnd - 1);
    const start = align(nameEnd);
    const end = start + entry.size;
    assert(end <= archive.length, "data lies inside the archive");
    if (path === "TRAILER!!!") {
      assert.equal(align(end), archive.length, "nothing follows the trailer");
      return found;
    }
    found.push({ ...entry, path, data: archive.subarray(start, end) });
    at = align(end);
  }
}

const align = (offset: number): number => Math.ceil(offset / 4) * 4;

const path = fc.stringMatching(/^[a-zä][a-zä0-9_.-]{0,30}(\/[a-z0-9_.-]{1,20}){0,3}$/).filter((text) => text !== "TRAILER!!!");
const entry: fc.Arbitrary<InitramfsEntry> = fc.oneof(
  fc.record({
    path,
    kind: fc.constant("file" as const),
    mode: fc.integer({ min: 0, max: 0o777 }),
    data: fc.uint8Array({ maxLength: 300 }),
  }),
  fc.record({ path, kind: fc.constant("directory" as const), mode: fc.integer({ min: 0, max: 0o777 }) }),
  fc.record({
    path,
    kind: fc.constant("character-device" as const),
    mode: fc.integer({ min: 0, max: 0o777 }),
    major: fc.nat(4095),
    minor: fc.nat(255),
  }),
);

test("a reader of the format finds what was written, in order", () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
      const found = readArchive(buildInitramfs(entries));
      assert.equal(found.length, entries.length);
      for (const [index, wanted] of entries.entries()) {
        const got = found[index] as Found;
        assert.equal(got.path, wanted.path);
        assert.equal(got.mode & TYPE_MASK, TYPES[wanted.kind]);
        assert.equal(got.mode & ~TYPE_MASK, wanted.mode);
        assert.deepEqual([got.major, got.minor], [wanted.major ?? 0, wanted.minor ?? 0]);
        assert.deepEqual(new Uint8Array(got.data), wanted.data ?? new Uint8Array());
      }
      assert.equal(new Set(found.map(({ inode }) => inode)).size, found.length, "equal inodes would be hard links");
    }),
  );
});

test("nothing of this machine is in an archive: equal input gives equal bytes, without owner or time", () => {
  const entries: InitramfsEntry[] = [
    { path: "dev", kind: "directory", mode: 0o755 },
    { path: "dev/console", kind: "character-device", mode: 0o600, major: 5, minor: 1 },
    { path: "init", kind: "file", mode: 0o755, data: Buffer.from("#!/bin/sh\n") },
  ];
  assert.deepEqual(buildInitramfs(entries), buildInitramfs(entries));
  for (const { uid, gid, mtime } of readArchive(buildInitramfs(entries))) assert.deepEqual([uid, gid, mtime], [0, 0, 0]);
});

const hasCpio = spawnSync("cpio", ["--version"]).status === 0;

test("cpio reads the archive", { skip: hasCpio ? false : "cpio is not installed" }, () => {
  const entries: InitramfsEntry[] = [
    { path: "dev", kind: "directory", mode: 0o755 },
    { path: "dev/console", kind: "character-device", mode: 0o600, major: 5, minor: 1 },
    ...["", "1", "12", "123", "1234"].map(
      (data): InitramfsEntry => ({ path: `file${data}`, kind: "file", mode: 0o644, data: Buffer.from(data) }),
    ),
  ];
  const listing = spawnSync("cpio", ["-tv", "--quiet", "--numeric-uid-gid"], { input: buildInitramfs(entries), encoding: "utf8" });
  assert.equal(listing.status, 0, listing.stderr);
  assert.equal(listing.stderr, "");
  const lines = listing.stdout.trimEnd().split("\n");
  assert.deepEqual(
    lines.map((line) => line.split(/\s+/).at(-1)),
    entries.map((one) => one.path),
  );
  assert.match(lines[1] ?? "", /^crw------- .* 5, +1 /);
  assert.match(lines[6] ?? "", /^-rw-r--r-- +1 0 +0 +4 /);
});
