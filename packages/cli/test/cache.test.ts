import assert from "node:assert/strict";
import { existsSync, mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { TestHome } from "./support/run-hob.ts";

const HOUR_MS = 60 * 60_000;
/** `hob` keeps its own compiled code in its cache. */
const NOTHING_COMPILED = { NODE_DISABLE_COMPILE_CACHE: "1" };

let home: TestHome;
beforeEach(() => {
  home = new TestHome();
});
afterEach(() => home[Symbol.dispose]());

function entry(name: string, ageHours: number): string {
  const directory = join(home.path, "cache", name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "file"), Buffer.alloc(1024 * 1024, 1));
  const at = new Date(Date.now() - ageHours * HOUR_MS);
  utimesSync(directory, at, at);
  return directory;
}

async function hob(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const { status, stdout, stderr } = await home.run(args, { env: NOTHING_COMPILED });
  assert.equal(status, 0, stderr);
  return { stdout: stdout.toString(), stderr };
}

interface Shown {
  name: string;
  kind: string;
  bytes: number;
  last_used_at: string;
  needed_by: string[];
}

describe("hob cache", () => {
  test("list: what is used longest ago comes first, with its size on the disk and who needs it", async () => {
    assert.match((await hob("cache", "list")).stderr, /^Nothing in .*cache yet\.\n$/);
    assert.deepEqual(JSON.parse((await hob("cache", "list", "--json")).stdout).entries, []);
    entry("templates/t-2cpu", 3);
    entry("images/pilot-1", 5);
    const { stdout, stderr } = await hob("cache", "list");
    assert.match(stdout, /^KIND +NAME +SIZE +LAST USE +NEEDED BY\nimage +pilot-1 +1\.\d MiB +5h +-\ntemplate +t-2cpu +1\.\d MiB +3h +-\n$/);
    assert.match(stderr, /^2\.\d MiB in .*cache\n$/);
    const { bytes, entries } = JSON.parse((await hob("cache", "list", "--json")).stdout) as { bytes: number; entries: Shown[] };
    assert.deepEqual(
      entries.map(({ name, kind, needed_by }) => [name, kind, needed_by]),
      [
        ["pilot-1", "image", []],
        ["t-2cpu", "template", []],
      ],
    );
    assert.ok(bytes > 2 * 1024 * 1024 && entries.every((one) => one.bytes > 1024 * 1024));
    assert.ok(Math.abs(Date.parse(entries[0]?.last_used_at ?? "") - (Date.now() - 5 * HOUR_MS)) < HOUR_MS);
  });

  test("prune: only said with --dry-run; by age, which a flag or the environment sets", async () => {
    const [image, template] = [entry("images/pilot-1", 49), entry("templates/t-2cpu", 25)];
    const dry = await hob("cache", "prune", "-n", "--older-than", "2d");
    assert.match(dry.stdout, /^KIND.*\nimage +pilot-1 .*\ntemplate +t-2cpu .*\nWould remove 2\.\d MiB in 2 entries\n$/);
    assert.ok(existsSync(image) && existsSync(template));
    const usual = JSON.parse((await hob("cache", "prune", "--json")).stdout) as { removed: Shown[]; bytes: number; kept_bytes: number };
    assert.deepEqual(
      usual.removed.map(({ name }) => name),
      ["t-2cpu"],
    );
    assert.ok(usual.bytes > 1024 * 1024 && usual.kept_bytes > 1024 * 1024);
    assert.ok(existsSync(image) && !existsSync(template));
    const set = await home.run(["cache", "prune"], { env: { ...NOTHING_COMPILED, HOB_CACHE_KEEP: "2d" } });
    assert.match(set.stdout.toString(), /^KIND.*\nimage +pilot-1 .*\nRemoved 1\.\d MiB in 1 entry\n$/);
    assert.ok(!existsSync(image));
    assert.equal((await hob("cache", "prune")).stdout, "Removed 0.0 KiB in 0 entries\n");
  });

  test("prune: an age below an hour is refused, and said why", async () => {
    for (const age of ["59m", "0", "soon"]) {
      const { status, stderr } = await home.run(["cache", "prune", "--older-than", age]);
      assert.equal(status, 2, age);
      assert.match(stderr, /at least 1h|such as/);
    }
    const { status, stderr } = await home.run(["cache", "prune"], { env: { HOB_CACHE_KEEP: "59m" } });
    assert.equal(status, 1);
    assert.match(stderr, /cacheKeep.*at least 1h/s);
  });

  test("help and completion know it", async () => {
    assert.match((await hob("cache", "--help")).stdout, /\$ hob cache prune --older-than 2d/);
    assert.match((await hob("__complete", "--", "cache", "p")).stdout, /^prune\t/);
    assert.match((await hob("__complete", "--", "cache", "prune", "--o")).stdout, /^--older-than\t/);
    assert.match((await hob("__complete", "--", "serve", "--cache")).stdout, /^--cache-keep\t/);
  });
});
