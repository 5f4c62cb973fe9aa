import assert from "node:assert/strict";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import { test } from "node:test";
import type { ImageSet } from "@hob/images";
import { SystemCommandRunner } from "@hob/linux";
import { WebSocketServer } from "ws";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { TemplateStore } from "../src/runtime/templates.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { temporaryHome } from "./support/test-daemon.ts";

const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
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
