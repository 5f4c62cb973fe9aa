import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { mkdir, open, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, dirname, join } from "node:path";
import { describe, test } from "node:test";
import { entriesInUse, type ImageSet } from "@hob/images";
import { SystemCommandRunner } from "@hob/linux";
import { PILOT_ROUTES } from "@hob/protocol";
import { WebSocketServer } from "ws";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { TemplateStore } from "../src/runtime/templates.ts";
import type { VmmDriver } from "../src/vmm/driver.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { temporaryHome } from "./support/test-daemon.ts";

const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const DAY_MS = 24 * 60 * 60_000;
const PARTS = ["boot-config.img", "devices.state", "memory.ram", "state.json", "volume.raw"];

/** A daemon of a home of its own that builds templates, in the cache of another if one is given. */
async function buildingIn(shared?: RuntimePaths) {
  await using undo = new AsyncDisposableStack();
  const home = undo.use(await temporaryHome());
  const daemon = { home, beforeSave: async () => {} };
  const pilot = createServer((request, response) => {
    const answer = () => response.writeHead(200).end(JSON.stringify({ protocol: 2 }));
    request
      .resume()
      .once("end", () => void (request.url === PILOT_ROUTES.prepareSave ? daemon.beforeSave() : Promise.resolve()).then(answer));
  });
  new WebSocketServer({ server: pilot }).on("connection", (socket) => socket.close(1000));
  await new Promise<void>((resolve) => pilot.listen(0, "127.0.0.1", resolve));
  undo.defer(() => void pilot.close());
  undo.defer(() => pilot.closeAllConnections());
  const paths = new RuntimePaths(home.path, shared === undefined ? join(home.path, "cache") : dirname(shared.templates));
  undo.defer(() => rm(paths.run, { recursive: true, force: true }));
  const driver = new FakeDriver(() => (pilot.address() as AddressInfo).port);
  const events = { building: () => {}, built: () => {} };
  const store = new TemplateStore(paths, { driver, images: { hash: "images" } as ImageSet }, new SystemCommandRunner(), events);
  undo.defer(() => store.stop());
  const cleanUp = undo.move();
  return Object.assign(daemon, { paths, store, [Symbol.asyncDispose]: () => cleanUp.disposeAsync() });
}

const runFolders = ({ run }: RuntimePaths): string[] => (existsSync(run) ? readdirSync(run) : []);

test("a template is on the disk, all of it, before it has its name", async (context) => {
  await using cache = await buildingIn();
  const { home, paths, store } = cache;

  const synced: string[] = [];
  const named = () => readdirSync(paths.templates).some((name) => !name.startsWith("."));
  const some = await open(home.path, "r");
  const { sync } = Object.getPrototypeOf(some);
  await some.close();
  context.mock.method(Object.getPrototypeOf(some), "sync", async function (this: { fd: number }) {
    synced.push(`${named() ? "named" : "unnamed"} ${basename(readlinkSync(`/proc/self/fd/${this.fd}`))}`);
    await sync.call(this);
  });
  const { files } = await store.ensure(MACHINE);
  const building = synced.at(-2)?.replace("unnamed ", "") ?? "";
  assert.match(building, new RegExp(`^\\.building-${process.pid}-${basename(files.directory)}-[0-9a-f]{8}$`));
  assert.deepEqual(synced.slice(0, -2).sort(), PARTS.map((part) => `unnamed ${part}`).sort());
  assert.deepEqual(synced.slice(-2), [`unnamed ${building}`, "named templates"]);
  for (const part of PARTS) assert.ok(existsSync(join(files.directory, part)), part);
});

describe("a template that two daemons build at the same time", () => {
  test("is the first one's, for both; nothing is left of the other", async () => {
    await using first = await buildingIn();
    await using second = await buildingIn(first.paths);
    const both = Promise.withResolvers<void>();
    let saves = 0;
    const wait = () => {
      if (++saves === 2) both.resolve();
      return both.promise;
    };
    [first.beforeSave, second.beforeSave] = [wait, wait];
    const [one, two] = await Promise.all([first.store.ensure(MACHINE), second.store.ensure(MACHINE)]);
    assert.equal(saves, 2);
    const { pilotToken } = JSON.parse(await readFile(one.files.stateInfo, "utf8")) as { pilotToken: string };
    assert.deepEqual([one.pilotToken, two.pilotToken], [pilotToken, pilotToken]);
    assert.equal(two.files.directory, one.files.directory);
    assert.deepEqual(readdirSync(first.paths.templates), [basename(one.files.directory)]);
    assert.deepEqual([runFolders(first.paths), runFolders(second.paths)], [[], []]);
  });

  test("stays what it is for who clones it when another daemon has built one as well", async () => {
    await using first = await buildingIn();
    await using second = await buildingIn(first.paths);
    const isBuilt = Promise.withResolvers<void>();
    second.beforeSave = () => isBuilt.promise;
    const later = second.store.ensure(MACHINE);
    const { files, pilotToken } = await first.store.ensure(MACHINE);
    const { ino } = await stat(files.ram);
    isBuilt.resolve();
    assert.equal((await later).pilotToken, pilotToken);
    assert.equal((await stat(files.ram)).ino, ino);
  });

  test("takes the place of what has its name and is none", async () => {
    await using cache = await buildingIn();
    const { directory } = (await cache.store.ensure(MACHINE)).files;
    await rm(join(directory, "state.json"));
    const { files } = await cache.store.ensure(MACHINE);
    for (const part of PARTS) assert.ok(existsSync(join(files.directory, part)), part);
    assert.deepEqual(readdirSync(cache.paths.templates), [basename(directory)]);
  });
});

test("a template that a daemon has used is marked, and counts as in use until the daemon stops or a day has passed", async () => {
  await using home = await temporaryHome();
  const paths = new RuntimePaths(home.path, join(home.path, "cache"));
  const driver = { fingerprint: async () => "fake" } as VmmDriver;
  const events = { building: () => assert.fail("it is there"), built: () => {} };
  const store = new TemplateStore(paths, { driver, images: { hash: "images" } as ImageSet }, new SystemCommandRunner(), events);
  const prefix = createHash("sha256").update("images").update("fake").digest("hex").slice(0, 16);
  const { directory, stateInfo } = paths.template(`${prefix}-1cpu-256mb-10gb`);
  await mkdir(directory);
  await writeFile(stateInfo, JSON.stringify({ pilotToken: "token" }));
  await utimes(directory, 1, 1);
  const inUse = async () => [...(await entriesInUse(paths.templates))].length;
  try {
    assert.equal(await inUse(), 0);
    for (let round = 0; round < 2; round++) assert.equal((await store.ensure(MACHINE)).pilotToken, "token");
    assert.ok((await stat(directory)).mtimeMs > Date.now() - DAY_MS);
    assert.equal(await inUse(), 1);
    store.releaseUnused(Date.now() + DAY_MS / 2);
    assert.equal(await inUse(), 1);
    store.releaseUnused(Date.now() + 2 * DAY_MS);
    assert.equal(await inUse(), 0);
    await store.ensure(MACHINE);
    assert.equal(await inUse(), 1);
    await store.stop();
    assert.equal(await inUse(), 0);
  } finally {
    await rm(paths.run, { recursive: true, force: true });
  }
});
