import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { mkdir, open, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import { test } from "node:test";
import { entriesInUse, type ImageSet } from "@hob/images";
import { SystemCommandRunner } from "@hob/linux";
import { WebSocketServer } from "ws";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { TemplateStore } from "../src/runtime/templates.ts";
import type { VmmDriver } from "../src/vmm/driver.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { temporaryHome } from "./support/test-daemon.ts";

const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const DAY_MS = 24 * 60 * 60_000;
const PARTS = ["boot-config.img", "devices.state", "memory.ram", "state.json", "volume.raw"];

test("a template is on the disk, all of it, before it has its name", async (context) => {
  await using cleanUp = new AsyncDisposableStack();
  const home = cleanUp.use(await temporaryHome());
  const pilot = createServer((request, response) => {
    request.resume().once("end", () => response.writeHead(200).end(JSON.stringify({ protocol: 2 })));
  });
  new WebSocketServer({ server: pilot }).on("connection", (socket) => socket.close(1000));
  await new Promise<void>((resolve) => pilot.listen(0, "127.0.0.1", resolve));
  cleanUp.defer(() => void pilot.close());
  cleanUp.defer(() => pilot.closeAllConnections());
  const paths = new RuntimePaths(home.path, join(home.path, "cache"));
  cleanUp.defer(() => rm(paths.run, { recursive: true, force: true }));
  const driver = new FakeDriver(() => (pilot.address() as AddressInfo).port);
  const events = { building: () => {}, built: () => {} };
  const store = new TemplateStore(paths, { driver, images: { hash: "images" } as ImageSet }, new SystemCommandRunner(), events);

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
  const building = `.building-${process.pid}-${basename(files.directory)}`;
  assert.deepEqual(synced.slice(0, -2).sort(), PARTS.map((part) => `unnamed ${part}`).sort());
  assert.deepEqual(synced.slice(-2), [`unnamed ${building}`, "named templates"]);
  for (const part of PARTS) assert.ok(existsSync(join(files.directory, part)), part);
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
