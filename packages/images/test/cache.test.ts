import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ImageCache } from "../src/index.ts";
import { hasOpen } from "./support/open-files.ts";

const HASH = "0123456789abcdef0123456789abcdef";
const CONTENTS = "an image";
/** Above every process id that Linux gives, proc_sys_kernel(5). */
const NO_PID = 4_194_305;

let base: string;
let root: string;
let cache: ImageCache;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "hob-cache-"));
  root = join(base, "images");
  cache = new ImageCache(root);
});
afterEach(() => rm(base, { recursive: true, force: true }));

const build = async (directory: string) => {
  await writeFile(join(directory, "base.img"), CONTENTS);
  // A whole second, which utimes(2) can set again.
  await utimes(join(directory, "base.img"), 1_700_000_000, 1_700_000_000);
  await mkdir(join(directory, "modules"));
};

/** Writes over a file of the cache; what was built is read-only. */
async function damage(path: string, contents: string, keepTime = false): Promise<void> {
  const { atime, mtime } = await stat(path);
  await chmod(path, 0o600);
  await writeFile(path, contents);
  if (keepTime) await utimes(path, atime, mtime);
}

describe("adding a component", () => {
  test("gives a folder named by component and hash, with read-only files and their checksums", async () => {
    const { directory, manifest } = await cache.add("system", HASH, build);
    assert.equal(directory, join(root, "system-0123456789abcdef"));
    assert.deepEqual(Object.keys(manifest.files), ["base.img"]);
    assert.equal(manifest.files["base.img"]?.sha256, createHash("sha256").update(CONTENTS).digest("hex"));
    assert.equal(manifest.files["base.img"]?.bytes, CONTENTS.length);
    assert.equal((await stat(join(directory, "base.img"))).mode & 0o222, 0);
    assert.deepEqual(JSON.parse(await readFile(join(directory, "manifest.json"), "utf8")), manifest);
    assert.deepEqual(await cache.find("system", HASH), { directory, manifest });
  });

  test("is invisible until it is complete, and leaves nothing when it fails", async () => {
    const failing = cache.add("system", HASH, async (directory) => {
      await build(directory);
      assert.equal(await cache.find("system", HASH), undefined);
      assert.deepEqual(await cache.list(), []);
      throw new Error("broken package");
    });
    await assert.rejects(failing, /broken package/);
    assert.deepEqual(await readdir(root), []);
  });

  const newer = (directory: string) => writeFile(join(directory, "base.img"), "newer");
  const contents = async () => readFile(join((await cache.find("system", HASH))?.directory ?? "", "base.img"), "utf8");

  test("replaces a component of the same hash when it is told to", async () => {
    await cache.add("system", HASH, build);
    const { manifest } = await cache.add("system", HASH, newer, { replaces: true });
    assert.deepEqual([await contents(), (await cache.find("system", HASH))?.manifest], ["newer", manifest]);
    assert.deepEqual(await readdir(root), ["system-0123456789abcdef"]);
  });

  test("gives what another one has added meanwhile", async () => {
    let first: unknown;
    const second = await cache.add("system", HASH, async (directory) => {
      await newer(directory);
      first = await new ImageCache(root).add("system", HASH, build);
    });
    assert.deepEqual([second, await contents()], [first, CONTENTS]);
    assert.deepEqual(await readdir(root), ["system-0123456789abcdef"]);
  });

  test("replaces what another one has added meanwhile, and is damaged", async () => {
    await cache.add("system", HASH, async (directory) => {
      await newer(directory);
      await damage(join((await cache.add("system", HASH, build)).directory, "base.img"), "an imago");
    });
    assert.equal(await contents(), "newer");
  });

  test("leaves what is there while somebody else looks at the cache", async () => {
    const { directory } = await cache.add("system", HASH, build);
    const program = `
      import { writeFile } from "node:fs/promises";
      import { ImageCache } from ${JSON.stringify(join(import.meta.dirname, "../src/index.ts"))};
      const build = (directory) => writeFile(directory + "/base.img", "newer");
      await new ImageCache(${JSON.stringify(root)}).add("system", "${HASH}", build, { replaces: true });`;
    const lock = new DatabaseSync(`${root}.lock`);
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    const other = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "inherit", "inherit"] });
    const ended = once(other, "exit");
    // It waits when it has opened the lock; where it never does, it ends.
    while (other.exitCode === null && !hasOpen(other.pid ?? 0, `${root}.lock`)) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(await readFile(join(directory, "base.img"), "utf8"), CONTENTS);
    lock.close();
    assert.deepEqual(await ended, [0, null]);
    assert.equal(await contents(), "newer");
    assert.deepEqual(await readdir(root), ["system-0123456789abcdef"]);
  });
});

describe("finding a component", () => {
  test("looks again when another one is put in its place meanwhile", async () => {
    const { directory } = await cache.add("system", HASH, (folder) => writeFile(join(folder, "base.img"), ""));
    const path = join(directory, "base.img");
    await rm(path);
    // Of the size that it should have, and read until it is closed here.
    execFileSync("mkfifo", [path]);
    const fifo = await open(path, "r+");
    const looking = cache.find("system", HASH);
    const added = await cache.add("system", HASH, build, { replaces: true });
    await fifo.write("damaged");
    await fifo.close();
    assert.deepEqual(await looking, added);
    assert.deepEqual(await cache.find("system", HASH), added);
  });

  test("gives nothing for another hash or name", async () => {
    await cache.add("system", HASH, build);
    assert.equal(await cache.find("system", `f${HASH.slice(1)}`), undefined);
    assert.equal(await cache.find("root", HASH), undefined);
  });

  test("takes equal contents with another time for intact", async () => {
    const { directory } = await cache.add("system", HASH, build);
    const path = join(directory, "base.img");
    await damage(path, CONTENTS);
    assert.notEqual(await cache.find("system", HASH), undefined);
  });

  for (const [what, spoil] of [
    ["shorter", (path: string) => damage(path, "an", true)],
    ["of the same length but changed", (path: string) => damage(path, "an imago")],
    ["gone", (path: string) => rm(path)],
  ] as const) {
    test(`says that a file is ${what}, removes the component, and a new build helps`, async () => {
      const { directory } = await cache.add("system", HASH, build);
      await spoil(join(directory, "base.img"));
      await assert.rejects(cache.find("system", HASH), { code: "image_corrupt", message: /base\.img of system/ });
      assert.equal(await cache.find("system", HASH), undefined);
      await cache.add("system", HASH, build);
      assert.notEqual(await cache.find("system", HASH), undefined);
    });
  }

  test("takes a folder without a readable manifest for missing", async () => {
    const { directory } = await cache.add("system", HASH, build);
    await writeFile(join(directory, "manifest.json"), '{"component":');
    assert.equal(await cache.find("system", HASH), undefined);
    await cache.add("system", HASH, build);
    assert.notEqual(await cache.find("system", HASH), undefined);
  });
});

describe("what killed builds leave", () => {
  test("is removed once its process is gone, and only then", async () => {
    const left = join(root, `.building-${NO_PID}-system-00000000`);
    const underWay = join(root, `.building-${process.pid}-root-00000000`);
    for (const directory of [left, underWay]) {
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, "half.img"), "half");
    }
    const { directory } = await cache.add("system", HASH, build);
    await cache.removeLeftovers();
    assert.deepEqual((await readdir(root)).sort(), [underWay, directory].map((path) => path.slice(root.length + 1)).sort());
  });

  test("a cache that does not exist yet has none, and is empty", async () => {
    const none = new ImageCache(join(root, "none"));
    await none.removeLeftovers();
    assert.deepEqual(await none.list(), []);
    assert.equal(await none.find("system", HASH), undefined);
  });
});
