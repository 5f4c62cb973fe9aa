import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, test } from "node:test";
import { bytesOnDisk, entriesInUse, ImageCache, isLeftover, markUsed, removeUnused } from "../src/index.ts";
import { hasOpen } from "./support/open-files.ts";

const HASH = "0123456789abcdef0123456789abcdef";
const DAY_MS = 24 * 60 * 60_000;
/** Above every process id that Linux gives, proc_sys_kernel(5). */
const NO_PID = 4_194_305;

let base: string;
let root: string;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "hob-use-"));
  root = join(base, "images");
});
afterEach(() => rm(base, { recursive: true, force: true }));

async function entry(name: string, usedMs: number): Promise<string> {
  const directory = join(root, name);
  await mkdir(join(directory, "modules"), { recursive: true });
  await writeFile(join(directory, "a.img"), "image");
  await utimes(directory, new Date(usedMs), new Date(usedMs));
  return directory;
}

describe("a use", () => {
  test("is noted when a component is found, also by a daemon that builds nothing", async () => {
    const cache = new ImageCache(root);
    const { directory } = await cache.add("system", HASH, (folder) => writeFile(join(folder, "base.img"), "image"));
    const old = new Date(Date.now() - 30 * DAY_MS);
    await utimes(directory, old, old);
    await cache.find("system", `f${HASH.slice(1)}`);
    assert.ok((await stat(directory)).mtimeMs < Date.now() - DAY_MS, "the use of another one is none");
    await cache.find("system", HASH);
    assert.ok((await stat(directory)).mtimeMs > Date.now() - DAY_MS);
  });

  test("of what is not there is none", () => {
    assert.equal(markUsed(root, "none"), false);
    assert.ok(!existsSync(`${root}.lock`));
  });

  test("between the look and the removal saves an entry", async () => {
    const limitMs = Date.now() - DAY_MS;
    await entry("old", limitMs - 1000);
    await entry("used", limitMs - 1000);
    assert.ok(markUsed(root, "used"));
    assert.equal(await removeUnused(root, "used", limitMs), false);
    assert.equal(await removeUnused(root, "old", limitMs), true);
    assert.equal(await removeUnused(root, "old", limitMs), false);
    assert.deepEqual(await readdir(root), ["used"]);
  });

  test("is waited for by a removal of another process, which then leaves the entry", async () => {
    const directory = await entry("image", 0);
    const program = `
      import { removeUnused } from ${JSON.stringify(join(import.meta.dirname, "../src/index.ts"))};
      console.log(await removeUnused(${JSON.stringify(root)}, "image", 1));`;
    // What markUsed does, in two steps.
    const lock = new DatabaseSync(`${root}.lock`);
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    const other = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(other, "exit");
    const said = once(other.stdout, "data") as Promise<[Buffer]>;
    // It waits when it has opened the lock; where it never does, it ends.
    while (other.exitCode === null && !hasOpen(other.pid ?? 0, `${root}.lock`)) await new Promise((resolve) => setTimeout(resolve, 5));
    await utimes(directory, new Date(), new Date());
    lock.close();
    assert.equal((await said)[0].toString(), "false\n");
    assert.deepEqual(await ended, [0, null]);
    assert.ok(existsSync(join(directory, "a.img")));
  });
});

describe("what is in use", () => {
  test("is what a process has open, also through a link to the folder and also another process", async () => {
    for (const name of ["here", "there", "nowhere"]) await entry(name, 0);
    const link = join(base, "link");
    await symlink(root, link);
    const held = await open(join(link, "here/a.img"), "r");
    const other = spawn("sh", ["-c", 'exec 3< "$0"; echo open; read line', join(root, "there/a.img")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      await once(other.stdout, "data");
      assert.deepEqual([...(await entriesInUse(root))].sort(), ["here", "there"]);
      assert.deepEqual([...(await entriesInUse(link))].sort(), ["here", "there"]);
    } finally {
      await held.close();
      other.stdin.end();
      await once(other, "exit");
    }
    assert.deepEqual([...(await entriesInUse(root))], []);
    assert.deepEqual([...(await entriesInUse(join(base, "none")))], []);
  });
});

describe("leftovers", () => {
  test("are of processes that are gone, or older than any build", async () => {
    const young = Date.now();
    for (const [name, usedMs, expected] of [
      [`.building-${NO_PID}-root-0`, young, true],
      [`.removed-${NO_PID}-root-0`, young, true],
      [`.building-${process.pid}-root-0`, young, false],
      [`.building-${process.pid}-pilot-0`, young - 2 * DAY_MS, true],
      ["root-0123456789abcdef", 0, false],
    ] as const) {
      await entry(name, usedMs);
      assert.equal(await isLeftover(root, name), expected, name);
    }
    await new ImageCache(root).removeLeftovers();
    assert.deepEqual(await readdir(root), [`.building-${process.pid}-root-0`, "root-0123456789abcdef"]);
  });
});

describe("bytes on the disk", () => {
  test("are those that were written, not those that a sparse file could have", async () => {
    await mkdir(root);
    const file = await open(join(root, "sparse"), "w");
    await file.truncate(1024 ** 3);
    await file.write(Buffer.alloc(1024 ** 2, 1), 0);
    await file.close();
    const bytes = await bytesOnDisk(root);
    assert.ok(bytes >= 1024 ** 2 && bytes < 3 * 1024 ** 2, String(bytes));
    assert.equal(await bytesOnDisk(join(root, "none")), 0);
  });
});
