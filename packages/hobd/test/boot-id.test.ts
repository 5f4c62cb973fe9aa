import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { test } from "node:test";
import type { ImageSet } from "@hob/images";
import { type Identity, NO_POLICIES, PILOT_ROUTES, RELAY } from "@hob/protocol";
import { acquire, type ObjectStore, OrgKeys } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { pino } from "pino";
import type { CacheKeeper } from "../src/cache/keeper.ts";
import { SpriteStorage } from "../src/object-store/sprite-storage.ts";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { StorageLinks } from "../src/runtime/storage-link.ts";
import type { TemplateStore } from "../src/runtime/templates.ts";
import { VmRuntime } from "../src/runtime/vm-runtime.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { temporaryHome, until } from "./support/test-daemon.ts";

interface Pilot {
  store: ObjectStore;
  /** its ways to the store */
  relay: Duplex[];
}

const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const BOX: Identity = {
  ...{ id: "sprite-3f1c0c1e-0000-4000-8000-00000000000a", name: "box", organization: "hob", url: "http://box" },
  ...{ machineId: "0".repeat(32), pilotToken: "t".repeat(64), environment: {}, policies: NO_POLICIES },
};
const NOW = { idleMs: 0, force: true, settleMs: 0, inUse: () => false };

/** A runtime of one sprite that has a volume, over VMs without a machine whose pilot agrees to everything. */
async function withRuntime(
  body: (runtime: VmRuntime, driver: FakeDriver, paths: RuntimePaths, pilot: Pilot) => Promise<void>,
): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const home = undo.use(await temporaryHome());
  const pilot = createServer((request, response) => {
    request.resume();
    const answer = request.url === PILOT_ROUTES.prepareSleep ? { ready: true, holders: [], idleMs: 0 } : { protocol: 2 };
    request.once("end", () => response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer)));
  });
  const relay: Duplex[] = [];
  let isOver = false;
  undo.defer(() => {
    isOver = true;
    for (const socket of relay) socket.destroy();
  });
  pilot.on("upgrade", (_request, socket) => {
    socket.on("error", () => {}).resume();
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${RELAY.upgrade}\r\n\r\n`);
    relay.push(socket);
    if (isOver) socket.destroy();
  });
  await new Promise<void>((resolve) => pilot.listen(0, "127.0.0.1", resolve));
  undo.defer(() => void pilot.close());
  undo.defer(() => pilot.closeAllConnections());
  const paths = new RuntimePaths(home.path, join(home.path, "cache"));
  undo.defer(() => rm(paths.run, { recursive: true, force: true }));
  const driver = new FakeDriver(() => (pilot.address() as AddressInfo).port);
  const log = pino({ level: "silent" });
  const store = await DirectoryStore.open(join(home.path, "store"));
  undo.defer(() => store.close());
  const links = new StorageLinks(new SpriteStorage({ store, organization: "hob", owner: "test", log }));
  const factory = { driver, images: { hash: "images", components: ["pilot-images"] } as ImageSet };
  const runtime = new VmRuntime({ paths, factory, templates: {} as TemplateStore, cache: {} as CacheKeeper, links, log });
  undo.defer(() => runtime.destroy(BOX.id));
  await mkdir(paths.sprite(BOX.id).directory, { recursive: true });
  await writeFile(paths.sprite(BOX.id).volume, "");
  await body(runtime, driver, paths, { store, relay });
}

const bootOf = async (runtime: VmRuntime): Promise<string> => (await runtime.endpoint(BOX, MACHINE)).bootId;
const isCold = (runtime: VmRuntime) => until("it is cold", () => runtime.status(BOX.id) === "cold");

test("a save and its restore keep the boot; whoever wants just that one has it, and wakes it", () =>
  withRuntime(async (runtime, driver) => {
    const boot = await bootOf(runtime);
    assert.equal((await runtime.endpoint(BOX, MACHINE, boot)).bootId, boot);
    assert.equal((await runtime.sleep(BOX, NOW)).kind, "asleep");
    assert.equal((await runtime.endpoint(BOX, MACHINE, boot)).bootId, boot);
    assert.deepEqual(driver.calls, ["boot", "restore"]);
  }));

test("whoever was in the middle of something when another host took the sprite over hears of that, and starts nothing", () =>
  withRuntime(async (runtime, driver, _paths, { store, relay }) => {
    const boot = await bootOf(runtime);
    await until("its pilot has a way to the store", () => relay.length > 0);
    await acquire({ store, org: "hob", sprite: BOX.id, owner: "another", takeOver: true });
    // What a pilot does whose write was refused.
    relay[0]?.write(`GET ${RELAY.objects}${new OrgKeys("hob").sprite(BOX.id).head} HTTP/1.1\r\nHost: relay\r\n\r\n`);
    await until("its VM is ended", () => (driver.vms.at(-1)?.killed ?? 0) > 0);
    for (const wanted of [boot, undefined]) await assert.rejects(runtime.endpoint(BOX, MACHINE, wanted), { code: "ownership_lost" });
    assert.deepEqual(driver.calls, ["boot"]);
  }));

test("whoever wants a sprite that is being destroyed hears that, by its name, and starts nothing", () =>
  withRuntime(async (runtime, driver) => {
    const boot = await bootOf(runtime);
    const vm = driver.vms.at(-1) ?? assert.fail("no VM");
    const [ending, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const kill = vm.kill.bind(vm);
    vm.kill = async () => {
      ending.resolve();
      await ended.promise;
      await kill();
    };
    const destroyed = runtime.destroy(BOX.id);
    await ending.promise;
    const wanted = [boot, undefined].map((bootId) =>
      assert.rejects(runtime.endpoint(BOX, MACHINE, bootId), { code: "not_found", message: "reach sprite box: it was destroyed" }),
    );
    wanted.push(assert.rejects(runtime.restart(BOX, MACHINE), { code: "not_found", message: "restart sprite box: it was destroyed" }));
    ended.resolve();
    await Promise.all([destroyed, ...wanted]);
    assert.deepEqual(driver.calls, ["boot"]);
  }));

const ENDS: Record<string, (runtime: VmRuntime, driver: FakeDriver) => Promise<unknown>> = {
  "a VM that ended": async (runtime, driver) => {
    driver.vms.at(-1)?.crash();
    await isCold(runtime);
  },
  "a restart": (runtime) => runtime.restart(BOX, MACHINE),
  "a save that was dropped": async (runtime) => {
    await runtime.sleep(BOX, NOW);
    assert.ok(await runtime.chill(BOX.id));
  },
};

for (const [what, end] of Object.entries(ENDS)) {
  test(`after ${what} there is another boot; nothing is started for whoever wants the old one`, () =>
    withRuntime(async (runtime, driver) => {
      const boot = await bootOf(runtime);
      await end(runtime, driver);
      const starts = driver.calls.length;
      await assert.rejects(runtime.endpoint(BOX, MACHINE, boot), { code: "vm_failed" });
      assert.equal(driver.calls.length, starts);
      assert.notEqual(await bootOf(runtime), boot);
      await assert.rejects(runtime.endpoint(BOX, MACHINE, boot), { code: "vm_failed" });
    }));
}

test("a save that cannot be restored is another boot, also for whoever wanted the one that was saved", () =>
  withRuntime(async (runtime, driver, paths) => {
    const boot = await bootOf(runtime);
    await runtime.sleep(BOX, NOW);
    await writeFile(paths.sprite(BOX.id).state, "Devices");
    await assert.rejects(runtime.endpoint(BOX, MACHINE, boot), { code: "vm_failed" });
    assert.deepEqual([driver.calls.at(-1), runtime.status(BOX.id)], ["boot", "running"]);
    assert.notEqual(await bootOf(runtime), boot);
  }));
