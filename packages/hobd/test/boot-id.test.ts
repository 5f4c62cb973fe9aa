import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import type { ImageSet } from "@hob/images";
import { type Identity, NO_POLICIES, PILOT_ROUTES } from "@hob/protocol";
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

const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const BOX: Identity = {
  ...{ id: "sprite-3f1c0c1e-0000-4000-8000-00000000000a", name: "box", organization: "hob", url: "http://box" },
  ...{ machineId: "0".repeat(32), pilotToken: "t".repeat(64), environment: {}, policies: NO_POLICIES },
};
const NOW = { idleMs: 0, force: true, settleMs: 0, inUse: () => false };

/** A runtime of one sprite that has a volume, over VMs without a machine whose pilot agrees to everything. */
async function withRuntime(body: (runtime: VmRuntime, driver: FakeDriver, paths: RuntimePaths) => Promise<void>): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const home = undo.use(await temporaryHome());
  const pilot = createServer((request, response) => {
    request.resume();
    const answer = request.url === PILOT_ROUTES.prepareSleep ? { ready: true, holders: [], idleMs: 0 } : { protocol: 2 };
    request.once("end", () => response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer)));
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
  await body(runtime, driver, paths);
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
