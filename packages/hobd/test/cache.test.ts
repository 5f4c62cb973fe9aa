import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, open, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type Logger, pino } from "pino";
import { noteHome } from "../src/cache/homes.ts";
import { CacheKeeper } from "../src/cache/keeper.ts";
import { pruneCache, surveyCache } from "../src/index.ts";
import { bootOfHost } from "../src/runtime/saved-state.ts";
import { temporaryHome, until } from "./support/test-daemon.ts";

const HOUR_MS = 60 * 60_000;
const DAY_MS = 24 * HOUR_MS;
const KEEP = { keepMs: 14 * DAY_MS };
/** Above every process id that Linux gives, proc_sys_kernel(5). */
const NO_PID = 4_194_305;

let cleanUp: AsyncDisposableStack;
let base: string;
let cacheDir: string;
beforeEach(async () => {
  cleanUp = new AsyncDisposableStack();
  base = cleanUp.use(await temporaryHome()).path;
  cacheDir = join(base, "cache");
  for (const kind of ["images", "templates"]) await mkdir(join(cacheDir, kind), { recursive: true });
});
afterEach(() => cleanUp.disposeAsync());

async function entry(kind: "images" | "templates", name: string, ageMs: number): Promise<string> {
  const directory = join(cacheDir, kind, name);
  await mkdir(directory);
  await writeFile(join(directory, kind === "images" ? "a.erofs" : "state.json"), "{}");
  const at = new Date(Date.now() - ageMs);
  await utimes(directory, at, at);
  return directory;
}

/** A home with a sprite that sleeps. */
async function sleeper(name: string, state: unknown): Promise<string> {
  const home = join(base, name);
  await mkdir(join(home, "sprites", "sprite-1"), { recursive: true });
  await mkdir(join(home, "sprites", "sprite-that-is-cold"));
  await writeFile(join(home, "sprites/sprite-1/state.json"), typeof state === "string" ? state : JSON.stringify(state));
  await noteHome(cacheDir, home);
  return home;
}

const namesOf = (entries: readonly { name: string }[]): string[] => entries.map(({ name }) => name).sort();
const left = (kind: "images" | "templates"): string[] => readdirSync(join(cacheDir, kind)).sort();

describe("pruning the cache", () => {
  test("removes images and templates that were not used for long, and leftovers", async () => {
    await entry("images", "pilot-old", 15 * DAY_MS);
    await entry("images", "pilot-new", 13 * DAY_MS);
    await entry("images", `.building-${NO_PID}-root-0`, 0);
    await entry("images", `.building-${process.pid}-root-0`, HOUR_MS);
    await entry("templates", "old", 2 * DAY_MS);
    await entry("templates", "new", HOUR_MS);
    await entry("templates", `.removed-${NO_PID}-x`, 0);
    const dry = await pruneCache(cacheDir, { ...KEEP, dryRun: true });
    assert.equal(left("images").length + left("templates").length, 7);
    const { removed, kept } = await pruneCache(cacheDir, KEEP);
    assert.deepEqual(namesOf(removed), [`.building-${NO_PID}-root-0`, `.removed-${NO_PID}-x`, "old", "pilot-old"]);
    assert.deepEqual([namesOf(dry.removed), namesOf(dry.kept)], [namesOf(removed), namesOf(kept)]);
    assert.ok(removed.every(({ bytes }) => bytes > 0));
    assert.deepEqual(left("images"), [`.building-${process.pid}-root-0`, "pilot-new"]);
    assert.deepEqual(left("templates"), ["new"]);
  });

  test("leaves what was used within the hour, whatever is asked, and images for ever if so asked", async () => {
    await entry("images", "fresh", HOUR_MS / 2);
    await entry("images", "older", 2 * HOUR_MS);
    assert.deepEqual(namesOf((await pruneCache(cacheDir, { keepMs: 0 })).removed), ["older"]);
    await entry("images", "ancient", 1000 * DAY_MS);
    await entry("templates", "ancient", 1000 * DAY_MS);
    await pruneCache(cacheDir, { keepMs: Number.POSITIVE_INFINITY });
    assert.deepEqual([left("images"), left("templates")], [["ancient", "fresh"], []]);
  });

  test("keeps no more than a few templates of earlier versions, however young", async () => {
    for (let hours = 1; hours <= 10; hours++) await entry("templates", `t${hours}`, hours * HOUR_MS + 60_000);
    await pruneCache(cacheDir, KEEP);
    assert.deepEqual(left("templates"), ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8"]);
  });

  test("leaves what a process has open, which does not count among those few", async () => {
    const image = await entry("images", "held", 100 * DAY_MS);
    const template = await entry("templates", "held", 100 * DAY_MS);
    const files = [await open(join(image, "a.erofs"), "r"), await open(join(template, "state.json"), "r")];
    for (let hours = 1; hours <= 8; hours++) await entry("templates", `t${hours}`, hours * HOUR_MS + 60_000);
    const { removed, kept } = await pruneCache(cacheDir, KEEP).finally(() => Promise.all(files.map((file) => file.close())));
    assert.deepEqual(removed, []);
    assert.deepEqual(
      kept.filter(({ name }) => name === "held").map(({ neededBy }) => neededBy),
      [["a running program"], ["a running program"]],
    );
    assert.deepEqual(namesOf((await pruneCache(cacheDir, KEEP)).removed), ["held", "held"]);
  });

  test("removes compiled code file by file, and the folder of a version of Node.js with its last one", async () => {
    const used = join(cacheDir, "compiled/v24.1.0-x64");
    const unused = join(cacheDir, "compiled/v22.1.0-x64");
    const code = async (directory: string, name: string, ageMs: number) => {
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, name), "x".repeat(10_000));
      const at = new Date(Date.now() - ageMs);
      await utimes(join(directory, name), at, at);
    };
    for (const [name, days] of Object.entries({ old: 15, older: 40, young: 13 })) await code(used, name, days * DAY_MS);
    await code(unused, "old", 20 * DAY_MS);
    // Read after it was written, which most file systems note.
    await code(used, "read", 30 * DAY_MS);
    await utimes(join(used, "read"), new Date(), new Date(Date.now() - 30 * DAY_MS));
    const [first, second] = await surveyCache(cacheDir);
    assert.deepEqual([first?.kind, first?.name, second?.name], ["compiled", "v22.1.0-x64", "v24.1.0-x64"]);
    const before = (second?.bytes ?? 0) + (first?.bytes ?? 0);
    const dry = await pruneCache(cacheDir, { ...KEEP, dryRun: true });
    assert.deepEqual([readdirSync(used).length, readdirSync(unused).length], [4, 1]);
    await pruneCache(cacheDir, { keepMs: Number.POSITIVE_INFINITY });
    await pruneCache(cacheDir, { ...KEEP, stopped: () => true });
    assert.deepEqual([readdirSync(used).length, readdirSync(unused).length], [4, 1]);
    const { removed, kept } = await pruneCache(cacheDir, KEEP);
    assert.deepEqual([namesOf(removed), namesOf(kept)], [["v22.1.0-x64", "v24.1.0-x64"], ["v24.1.0-x64"]]);
    assert.deepEqual([dry.removed, dry.kept], [removed, kept]);
    assert.deepEqual([readdirSync(used).sort(), existsSync(unused)], [["read", "young"], false]);
    const bytes = [...removed, ...kept].reduce((sum, entry) => sum + entry.bytes, 0);
    assert.ok(removed.every((entry) => entry.bytes >= 10_000) && bytes <= before && bytes > 40_000);
    await pruneCache(cacheDir, { keepMs: 0 });
    assert.deepEqual(readdirSync(used), ["read"], "what was used within the hour stays");
  });

  test("ends when it is asked to", async () => {
    await entry("images", "old", 15 * DAY_MS);
    assert.deepEqual((await pruneCache(cacheDir, { ...KEEP, stopped: () => true })).removed, []);
    assert.deepEqual(left("images"), ["old"]);
  });

  test("of a cache that does not exist is nothing", async () => {
    assert.deepEqual(await pruneCache(join(base, "none"), KEEP), { removed: [], kept: [] });
    assert.ok(!existsSync(join(base, "none")));
  });
});

describe("what sleeping sprites need", () => {
  const COMPONENTS = ["root-a", "pilot-a"];
  beforeEach(async () => {
    for (const name of [...COMPONENTS, "pilot-b"]) await entry("images", name, 100 * DAY_MS);
  });

  test("stays, in whichever home they are, and for as long as they are", async () => {
    const save = { images: "a", components: COMPONENTS, vmm: "v", hostBoot: await bootOfHost() };
    await sleeper("one", save);
    const other = await sleeper("two", save);
    await pruneCache(cacheDir, KEEP);
    assert.deepEqual(left("images"), ["pilot-a", "root-a"]);
    assert.deepEqual(
      (await surveyCache(cacheDir)).map(({ neededBy }) => neededBy),
      [["2 sleeping sprites"], ["2 sleeping sprites"]],
    );
    await rm(other, { recursive: true });
    assert.deepEqual((await surveyCache(cacheDir))[0]?.neededBy, ["1 sleeping sprite"]);
    assert.equal(readdirSync(join(cacheDir, "homes")).length, 1, "the home that is gone is forgotten");
    await rm(join(base, "one/sprites/sprite-1/state.json"));
    await pruneCache(cacheDir, KEEP);
    assert.deepEqual(left("images"), []);
  });

  test("stays also when the sprite falls asleep while it is looked for", { timeout: 30_000 }, async () => {
    const home = await sleeper("one", "");
    const state = join(home, "sprites/sprite-1/state.json");
    await rm(state);
    execFileSync("mkfifo", [state]);
    const running = await open(join(cacheDir, "images/pilot-a/a.erofs"), "r");
    const surveyed = surveyCache(cacheDir);
    // Opens when it is being read: no save is found yet. Then the VM ends.
    const save = await open(state, "w");
    await running.close();
    await save.close();
    assert.deepEqual((await surveyed).find(({ name }) => name === "pilot-a")?.neededBy, ["a running program"]);
  });

  test("is nothing after the host has booted, or when the record is damaged", async () => {
    await sleeper("rebooted", { images: "a", components: COMPONENTS, vmm: "v", hostBoot: "another" });
    await sleeper("damaged", '{"images":');
    await pruneCache(cacheDir, KEEP);
    assert.deepEqual(left("images"), []);
  });

  test("is everything when a save does not say it: one of an earlier version", async () => {
    const home = await sleeper("earlier", { images: "a", vmm: "v", hostBoot: await bootOfHost() });
    await pruneCache(cacheDir, KEEP);
    assert.equal(left("images").length, 3);
    await rm(join(home, "sprites/sprite-1/state.json"));
    // The same of what cannot be read.
    await mkdir(join(home, "sprites/sprite-1/state.json"));
    await pruneCache(cacheDir, KEEP);
    assert.equal(left("images").length, 3);
  });
});

describe("a daemon", () => {
  const log: Logger = pino({ level: "silent" });
  const FILES = ["kernel", "initramfs", "rootNamespace", "pilot", "systemBase", "platform", "languages"] as const;

  async function keeperOf(directory: string): Promise<CacheKeeper> {
    for (const name of FILES) await writeFile(join(directory, name), "");
    const paths = Object.fromEntries(FILES.map((name) => [name, join(directory, name)])) as Record<(typeof FILES)[number], string>;
    const home = join(base, "home");
    await mkdir(home, { recursive: true });
    return new CacheKeeper({ cacheDir, home, images: { ...paths, components: ["own"] }, keepMs: KEEP.keepMs, beforeRound: () => {}, log });
  }

  test("needs its images as long as it runs, marks them, tells where its home is, and removes what is old", async () => {
    const directory = await entry("images", "own", 0);
    const keeper = await keeperOf(directory);
    await utimes(directory, 1, 1);
    assert.deepEqual((await surveyCache(cacheDir))[0]?.neededBy, ["a running program"]);
    await entry("images", "old", 15 * DAY_MS);
    await keeper.start();
    await until("the old one is gone", () => !left("images").includes("old"));
    assert.ok((await stat(directory)).mtimeMs > Date.now() - DAY_MS);
    assert.equal(readdirSync(join(cacheDir, "homes")).length, 1);
    await keeper.stop();
    assert.deepEqual((await surveyCache(cacheDir))[0]?.neededBy, []);
  });

  test("that is stopped at once removes nothing any more", async () => {
    const keeper = await keeperOf(await entry("images", "own", 0));
    await entry("images", "old", 15 * DAY_MS);
    const started = keeper.start();
    await keeper.stop();
    await started;
    await keeper.stop();
    assert.deepEqual(left("images"), ["old", "own"]);
  });
});
