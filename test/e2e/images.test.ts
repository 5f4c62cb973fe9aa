import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { CacheCopy } from "./support/cache-copy.ts";
import { hobEnvironment, runHob } from "./support/hob.ts";

const LIMIT = { timeout: 120_000 };
const COMPONENTS = ["root", "system", "platform", "pilot", "initramfs"];

/** Runs `hob image` with a cache and without a home. */
const image = (args: readonly string[], env: Record<string, string> = {}) => {
  const home = mkdtempSync(join(tmpdir(), "hob-e2e-"));
  return runHob(["image", ...args], hobEnvironment(home, env)).finally(() => rmSync(home, { recursive: true, force: true }));
};
const countOf = (text: string, word: string): number => text.split("\n").filter((line) => line.includes(` ${word} `)).length;

before(
  async () => {
    const { code, stderr } = await image(["build"]);
    assert.equal(code, 0, stderr);
  },
  { timeout: 600_000 },
);

describe("a complete cache", () => {
  test("a build does nothing, and says so for every part", LIMIT, async () => {
    const { code, stdout, stderr } = await image(["build"]);
    assert.equal(code, 0);
    assert.deepEqual([countOf(stderr, "cached"), countOf(stderr, "building")], [COMPONENTS.length, 0], stderr);
    assert.match(stdout, /^Images ready in .* \([0-9a-f]{12}\)\n$/);
  });

  test("the list has every part, with its size and hash", LIMIT, async () => {
    const { stdout } = await image(["list", "--json"]);
    const listed = JSON.parse(stdout) as { component: string; inputHash: string }[];
    assert.deepEqual(
      COMPONENTS.filter((name) => !listed.some(({ component }) => component === name)),
      [],
    );
    assert.ok(listed.every(({ inputHash }) => /^[0-9a-f]{64}$/.test(inputHash)));
  });
});

describe("a damaged cache", () => {
  for (const damage of ["truncated", "altered"] as const) {
    test(`an image that was ${damage} is named and built anew, with the same contents`, LIMIT, async () => {
      using cache = new CacheCopy();
      const build = async () => JSON.parse((await image(["build", "--json"], cache.env)).stdout) as { hash: string; pilot: string };
      const before = await build();
      assert.ok(before.pilot.startsWith(cache.directory));
      const bytes = readFileSync(before.pilot);
      // A new file: the old one is shared with the real cache.
      rmSync(before.pilot);
      if (damage === "altered") bytes[bytes.length - 5000] = (bytes[bytes.length - 5000] ?? 0) ^ 1;
      writeFileSync(before.pilot, bytes);
      if (damage === "truncated") truncateSync(before.pilot, bytes.length - 4096);
      const { code, stderr } = await image(["build"], cache.env);
      assert.equal(code, 0, stderr);
      assert.match(stderr, /check image pilot\.erofs of pilot: it does not match its checksum/);
      assert.deepEqual([countOf(stderr, "cached"), countOf(stderr, "built")], [COMPONENTS.length - 1, 1], stderr);
      assert.equal((await build()).hash, before.hash);
      assert.deepEqual(
        readdirSync(join(cache.directory, "images")).filter((name) => name.startsWith(".")),
        [],
      );
    });
  }
});
