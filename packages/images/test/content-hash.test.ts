import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { hashFile, InputHash } from "../src/content-hash.ts";

const root = await mkdtemp(join(tmpdir(), "hob-hash-"));
after(() => rm(root, { recursive: true, force: true }));

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}

const hashTree = async (): Promise<string> => (await new InputHash().tree("src", join(root, "src"))).digest();

test("a tree's hash follows names, contents and the executable bit of its files, not its tests", async () => {
  await write("src/a.ts", "a");
  await write("src/deep/b.sh", "b");
  const before = await hashTree();
  await write("src/deep/test/b.test.ts", "a test");
  await write("src/node_modules/x/index.js", "a dependency");
  assert.equal(await hashTree(), before);
  await write("src/a.ts", "A");
  assert.notEqual(await hashTree(), before);
  await write("src/a.ts", "a");
  await chmod(join(root, "src/deep/b.sh"), 0o755);
  assert.notEqual(await hashTree(), before);
  await chmod(join(root, "src/deep/b.sh"), 0o644);
  assert.equal(await hashTree(), before);
  await write("src/c.ts", "");
  assert.notEqual(await hashTree(), before);
});

test("values cannot run into each other: other names or values give another hash", () => {
  const pairs = fc.array(fc.tuple(fc.string({ maxLength: 3 }), fc.string({ maxLength: 3 })), { maxLength: 3 });
  const digest = (values: [string, string][]) => values.reduce((hash, [name, value]) => hash.value(name, value), new InputHash()).digest();
  const key = (values: [string, string][]) => JSON.stringify(values);
  assert.notEqual(
    digest([['a"b"c', "d"]]),
    digest([
      ["a", "b"],
      ["c", "d"],
    ]),
  );
  fc.assert(fc.property(pairs, pairs, (left, right) => (digest(left) === digest(right)) === (key(left) === key(right))));
});

test("a file's hash is the SHA-256 of its contents", async () => {
  const text = "x".repeat(3 * 1024 * 1024);
  await write("large", text);
  assert.equal(await hashFile(join(root, "large")), createHash("sha256").update(text).digest("hex"));
});
