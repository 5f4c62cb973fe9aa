import assert from "node:assert/strict";
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, readFile, rename, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { ImageSet } from "@hob/images";
import { HobError, type Identity, NO_POLICIES, PILOT_ROUTES, RELAY } from "@hob/protocol";
import type { HeadDocument } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { pino } from "pino";
import { SpriteStorage } from "../src/object-store/sprite-storage.ts";
import { SpriteEntries, type SpriteEntry } from "../src/runtime/entries.ts";
import { VmLifecycle } from "../src/runtime/lifecycle.ts";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { noteRest, readRest } from "../src/runtime/rest.ts";
import { StorageLinks } from "../src/runtime/storage-link.ts";
import type { TemplateStore } from "../src/runtime/templates.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { temporaryHome, until } from "./support/test-daemon.ts";

const ID = "sprite-3f1c0c1e-0000-4000-8000-00000000000a";
const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const IDENTITY: Identity = {
  ...{ id: ID, name: "box", organization: "hob", url: "http://box", machineId: "0".repeat(32), pilotToken: "t".repeat(64) },
  ...{ environment: {}, policies: NO_POLICIES },
};

let cleanUp: AsyncDisposableStack;
let paths: RuntimePaths;
let entries: SpriteEntries;
let lifecycle: VmLifecycle;
let lifecycleWith: (images: string) => VmLifecycle;
let store: string;
let driver: FakeDriver;
let refusing = false;
/** starts of VMs that were given a way to the store */
let relayed: Set<unknown>;
/** how often a pilot was told that its VM goes on */
let greeted = 0;
/** how often one was asked whether it is ready */
let lookedAt = 0;
let earlier: Set<unknown>;
/** how often the store was asked whose the sprite is */
let asked = 0;
/** what the pilot says when its sprite's processes stand still; undefined: it refuses */
let said: object | undefined;
const run = () => paths.sprite(ID).run;
const inOrder = <T>(work: (entry: SpriteEntry) => Promise<T>) => entries.inOrder(ID, work);
const wake = () => inOrder((entry) => lifecycle.wake(entry, IDENTITY, MACHINE));
const newest = () => driver.vms.at(-1) ?? assert.fail("no VM");
const statusIs = (status: string) => until(`it is ${status}`, () => entries.get(ID)?.status === status);

beforeEach(async () => {
  cleanUp = new AsyncDisposableStack();
  const home = cleanUp.use(await temporaryHome());
  const pilot: Server = createServer((request, response) => {
    request.resume();
    const isFreeze = request.url === PILOT_ROUTES.freeze;
    if (!refusing && request.url === PILOT_ROUTES.resumed) greeted++;
    if (request.url === PILOT_ROUTES.ready) lookedAt++;
    const body = JSON.stringify(isFreeze ? said : { protocol: 2 });
    const refuses = refusing || (isFreeze && said === undefined);
    request.once("end", () => response.writeHead(refuses ? 500 : 200, { "Content-Type": "application/json" }).end(body));
  });
  pilot.on("upgrade", ({ headers }, socket) => {
    const start = headers[RELAY.startHeader.toLowerCase()];
    if (!earlier.has(start)) relayed.add(start);
    socket.destroy();
  });
  refusing = false;
  said = undefined;
  [relayed, earlier] = [new Set(), new Set()];
  asked = 0;
  await new Promise<void>((resolve) => pilot.listen(0, "127.0.0.1", resolve));
  cleanUp.defer(() => void pilot.close());
  cleanUp.defer(() => pilot.closeAllConnections());
  paths = new RuntimePaths(home.path, join(home.path, "cache"));
  cleanUp.defer(() => rm(paths.run, { recursive: true, force: true }));
  entries = new SpriteEntries();
  driver = new FakeDriver(() => (pilot.address() as AddressInfo).port);
  const log = pino({ level: "silent" });
  store = join(home.path, "store");
  const objects = await DirectoryStore.open(store);
  cleanUp.defer(() => objects.close());
  const storage = new SpriteStorage({ store: objects, organization: "hob", owner: "test", log });
  const { head } = storage;
  storage.head = (id) => {
    asked++;
    return head.call(storage, id);
  };
  const links = new StorageLinks(storage);
  lifecycleWith = (hash) => {
    const images = { hash, components: [`pilot-${hash}`] } as ImageSet;
    const askAgainMs = { first: 2, last: 10 };
    const factory = { driver, images };
    return new VmLifecycle({ paths, factory, entries, templates: {} as TemplateStore, links, log, askAgainMs, lookMs: 1 });
  };
  lifecycle = lifecycleWith("images");
  await mkdir(paths.sprite(ID).directory, { recursive: true });
  await writeFile(paths.sprite(ID).volume, "");
  cleanUp.defer(async () => {
    await inOrder((entry) => lifecycle.stop(entry)).catch(() => {});
    for (const vm of driver.vms) await vm.kill();
  });
});
afterEach(() => cleanUp.disposeAsync());

describe("the folder of sockets of a VM", () => {
  test("is not made before the first VM, and others may pass it on their way to theirs", async () => {
    assert.ok(!existsSync(paths.run));
    await wake();
    assert.deepEqual(readdirSync(paths.run).length, 1);
    assert.equal(statSync(dirname(run())).mode & 0o777, 0o711);
  });

  test("goes when the VM ends by itself, together with what is left of it", async () => {
    await wake();
    const vm = newest();
    vm.crash();
    await until("its folder and its memory are gone", () => !existsSync(run()) && !existsSync(paths.sprite(ID).ram));
    assert.deepEqual([entries.get(ID)?.status, entries.get(ID)?.vm, vm.killed], ["cold", undefined, 1]);
    assert.ok(existsSync(paths.sprite(ID).volume));
  });

  test("of one that has ended goes without the memory that a later VM was saved with", async () => {
    await wake();
    const first = newest();
    const busy = Promise.withResolvers<void>();
    const before = inOrder(() => busy.promise);
    const second = wake();
    const asleep = inOrder((entry) => lifecycle.sleep(entry));
    first.crash();
    await statusIs("cold");
    busy.resolve();
    await Promise.all([before, second, asleep]);
    await inOrder(async () => {});
    assert.deepEqual([entries.get(ID)?.status, existsSync(paths.sprite(ID).ram)], ["warm", true]);
  });

  test("stays when the next VM has been started in it before", async () => {
    await wake();
    const first = newest();
    // The next start waits in the queue already when the VM ends.
    const busy = Promise.withResolvers<void>();
    const before = inOrder(() => busy.promise);
    const second = wake();
    const after = inOrder(async () => {});
    first.crash();
    await statusIs("cold");
    busy.resolve();
    await Promise.all([before, second, after]);
    await inOrder(async () => {});
    assert.deepEqual([driver.vms.length, entries.get(ID)?.vm === newest(), entries.get(ID)?.status], [2, true, "running"]);
    assert.deepEqual(readdirSync(run()), ["vm.json"], "the record of the second VM, by which a later daemon finds it");
  });

  test("a start that comes right after the end finds an empty one", async () => {
    await wake();
    newest().crash();
    await statusIs("cold");
    await wake();
    await inOrder(async () => {});
    assert.deepEqual([driver.vms.length, readdirSync(run()), entries.get(ID)?.status], [2, ["vm.json"], "running"]);
  });

  test("goes when a start fails, and when a pilot does not answer", async () => {
    driver.failing = true;
    await assert.rejects(wake(), /as the test asked/);
    assert.ok(!existsSync(run()));
    driver.failing = false;
    const waking = wake();
    refusing = true;
    await until("it starts", () => driver.vms.length === 1);
    newest().crash();
    await assert.rejects(waking);
    assert.ok(!existsSync(run()));
  });

  test("goes with a sleep and an orderly end; what a dead VM of an earlier daemon left goes when that is found out", async () => {
    await wake();
    await inOrder((entry) => lifecycle.sleep(entry));
    assert.ok(!existsSync(run()));
    await mkdir(run(), { recursive: true });
    await writeFile(join(run(), "qmp.sock"), "");
    await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
    assert.ok(!existsSync(run()));
  });

  test("what this machine has of a sprite stays when the store has nothing of it, or something older", async () => {
    await wake();
    await inOrder((entry) => lifecycle.sleep(entry));
    const { volume, ownership } = paths.sprite(ID);
    const refused = (error: unknown) => error instanceof HobError && error.code === "store_failed" && error.hint?.includes("--store");
    const head = join(store, "orgs/hob/sprites", ID, "head.json");
    await rename(head, `${store}/kept`);
    await assert.rejects(wake(), refused);
    assert.ok(existsSync(volume) && existsSync(ownership));
    await rename(`${store}/kept`, head);
    await writeFile(ownership, JSON.stringify({ epoch: 2 }));
    await assert.rejects(wake(), refused);
    assert.ok(existsSync(volume) && existsSync(ownership));
    await writeFile(ownership, JSON.stringify({ epoch: 1 }));
    await wake();
    assert.equal(entries.get(ID)?.status, "running");
  });

  test("a sprite that was destroyed meanwhile gets no entry again", async () => {
    await wake();
    const vm = newest();
    entries.remove(ID);
    vm.crash();
    await until("it has ended", async () => {
      await vm.exited;
      return true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(entries.get(ID), undefined);
  });
});

describe("a save", () => {
  const files = () => paths.sprite(ID);
  const sleepAndWake = async (damage: () => Promise<unknown>) => {
    await inOrder((entry) => lifecycle.sleep(entry));
    assert.equal(entries.get(ID)?.status, "warm");
    await damage();
    await wake();
    assert.equal(entries.get(ID)?.status, "running");
    return driver.calls.at(-1);
  };

  test("is used when it is what was saved, and is gone then", async () => {
    await wake();
    assert.equal(await sleepAndWake(async () => {}), "restore");
    assert.deepEqual([existsSync(files().state), existsSync(files().stateInfo)], [false, false]);
  });

  const damages: Record<string, () => Promise<unknown>> = {
    "a device state that is cut short": () => truncate(files().state, 3),
    "a device state with another byte": () => writeFile(files().state, "Devices"),
    "no device state": () => rm(files().state),
    "a memory that is cut short": () => truncate(files().ram, 3),
    "a memory that was written to": async () => {
      await writeFile(files().ram, "Memory", { flag: "r+" });
      // The clock of files may stand still for some milliseconds.
      await utimes(files().ram, new Date(), Date.now() / 1_000 + 1);
    },
    "no memory": () => rm(files().ram),
    "nothing that says what was saved": async () => {
      const { content: _, ...fit } = JSON.parse(await readFile(files().stateInfo, "utf8"));
      await writeFile(files().stateInfo, JSON.stringify(fit));
    },
  };
  for (const [what, damage] of Object.entries(damages)) {
    test(`with ${what} is not used: the sprite starts from its disk, and can sleep again`, async () => {
      await wake();
      assert.equal(await sleepAndWake(damage), "boot");
      assert.ok(!existsSync(files().state));
      assert.equal(await sleepAndWake(async () => {}), "restore");
    });
  }
});

describe("a VM of an earlier daemon that waits for room on the disk", () => {
  const adopted = async () => {
    driver.adoptable = newest();
    entries.remove(ID);
    newest().isStalled = true;
    refusing = true;
    greeted = lookedAt = 0;
    await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
  };

  test("is the sprite's, and is greeted when it goes on", async () => {
    await wake();
    await adopted();
    const { status, vm } = entries.get(ID) ?? assert.fail();
    assert.deepEqual([status, vm === newest(), newest().killed, greeted], ["running", true, 0, 0]);
    [refusing, newest().isStalled] = [false, false];
    await until("it is greeted", () => greeted > 0);
    await inOrder(async () => {});
    assert.deepEqual([entries.get(ID)?.status, newest().killed], ["running", 0]);
  });

  test("is not greeted when it has ended meanwhile", async () => {
    await wake();
    await adopted();
    newest().crash();
    await statusIs("cold");
    await inOrder(async () => {});
    [refusing, newest().isStalled] = [false, false];
    await inOrder(async () => {});
    assert.deepEqual([entries.get(ID)?.status, greeted, newest().killed], ["cold", 0, 1]);
  });

  test("is ended when its volume is not the sprite's yet", async () => {
    await wake();
    await writeFile(paths.sprite(ID).ownership, JSON.stringify({ epoch: 1, base: { root: "0".repeat(64), volumeBytes: 65_536 } }));
    const ended = adopted();
    await until("its pilot is asked", () => lookedAt > 0);
    newest().crash();
    await ended;
    assert.deepEqual([newest().killed, entries.get(ID)?.vm], [1, undefined]);
  });
});

describe("a VM of an earlier daemon", () => {
  test("of an earlier daemon with other images is saved as what it is, and not restored with those of this one", async () => {
    await wake();
    driver.adoptable = newest();
    const sleepsUnder = async (images: string) => {
      entries.remove(ID);
      const later = lifecycleWith(images);
      await inOrder((entry) => later.adopt(entry, IDENTITY, MACHINE));
      assert.equal(entries.get(ID)?.status, "running");
      await inOrder((entry) => later.sleep(entry));
      return later;
    };
    const later = await sleepsUnder("newer");
    const { images, components, vmm } = JSON.parse(await readFile(paths.sprite(ID).stateInfo, "utf8")) as Record<string, unknown>;
    assert.deepEqual([images, components, vmm], ["images", ["pilot-images"], "fake"]);
    assert.deepEqual(
      [await later.saved.isRestorable(paths.sprite(ID)), await lifecycle.saved.isRestorable(paths.sprite(ID))],
      [false, true],
    );
  });

  test("that was started by an earlier version is saved as of images that nobody knows the place of", async () => {
    for (const [noted, components] of [
      ["images", ["pilot-images"]],
      ["others", undefined],
    ] as const) {
      await wake();
      driver.adoptable = newest();
      await writeFile(paths.sprite(ID).images, JSON.stringify({ images: noted }));
      await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
      await inOrder((entry) => lifecycle.sleep(entry));
      const save = JSON.parse(await readFile(paths.sprite(ID).stateInfo, "utf8")) as Record<string, unknown>;
      assert.deepEqual([save.images, save.components], [noted, components]);
    }
  });

  test("a save that nobody can restore goes when a daemon starts, one of other images stays for the daemon that has them", async () => {
    const { ram, state, stateInfo } = paths.sprite(ID);
    const adopted = async () => {
      await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
      assert.equal(entries.get(ID)?.status, "cold");
      return [ram, state, stateInfo].map((path) => existsSync(path));
    };
    await wake();
    await inOrder((entry) => lifecycle.sleep(entry));
    await writeFile(ram, "memory");
    lifecycle = lifecycleWith("newer");
    assert.deepEqual(await adopted(), [true, true, true]);
    await writeFile(stateInfo, JSON.stringify({ images: "newer", vmm: "fake", hostBoot: "another" }));
    assert.deepEqual(await adopted(), [false, false, false]);
    await writeFile(ram, "memory of a VM that was killed");
    assert.deepEqual(await adopted(), [false, false, false]);
    assert.ok(existsSync(paths.sprite(ID).volume));
  });
});

describe("a VM of an earlier daemon whose store is away", () => {
  const head = () => join(store, "orgs/hob/sprites", ID, "head.json");
  /** The daemon ends, its store goes, and the next daemon starts. @returns its way to let the store come back */
  const adoptedWithout = async (path: string, change?: (head: HeadDocument) => HeadDocument) => {
    await wake();
    driver.adoptable = newest();
    const written = JSON.parse(await readFile(head(), "utf8")) as HeadDocument;
    await rename(path, `${store}-kept`);
    entries.remove(ID);
    await until("it had a way to the store", () => relayed.size > 0);
    // That daemon is this process: it dials on.
    earlier = new Set(relayed);
    relayed.clear();
    await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
    const { status, vm } = entries.get(ID) ?? assert.fail();
    assert.deepEqual([status, vm === newest(), newest().killed], ["running", true, 0]);
    return async () => {
      await rename(`${store}-kept`, path);
      if (change !== undefined) await writeFile(head(), JSON.stringify(change(written)));
    };
  };

  test("runs on, and reaches the store when that says that the sprite is still this host's", async () => {
    for (const path of [store, head()]) {
      const comeBack = await adoptedWithout(path);
      const before = asked;
      await until("it was asked again", () => asked > before + 1);
      assert.equal(relayed.size, 0, "nothing of it may reach a store that does not say so");
      await comeBack();
      await until("it reaches the store", () => relayed.size > 0);
      assert.deepEqual([entries.get(ID)?.status, newest().killed], ["running", 0]);
      await inOrder((entry) => lifecycle.sleep(entry));
    }
  });

  test("is ended, and its copy goes, when another host turns out to have taken the sprite over", async () => {
    const comeBack = await adoptedWithout(store, (written) => ({ ...written, owner: "another", epoch: written.epoch + 1 }));
    await comeBack();
    await statusIs("cold");
    await inOrder(async () => {});
    assert.deepEqual([relayed.size, existsSync(paths.sprite(ID).volume), entries.get(ID)?.vm], [0, false, undefined]);
    assert.ok(newest().killed > 0);
  });

  test("is not asked about any more when it has ended, and is not woken without the store", async () => {
    const comeBack = await adoptedWithout(store);
    newest().crash();
    await statusIs("cold");
    await inOrder(async () => {});
    await assert.rejects(wake(), { code: "store_unavailable" });
    assert.ok(existsSync(paths.sprite(ID).volume));
    await comeBack();
    await wake();
    assert.equal(entries.get(ID)?.status, "running");
  });

  test("is ended when its volume is not the sprite's yet, for it cannot be fetched", async () => {
    await wake();
    driver.adoptable = newest();
    await writeFile(paths.sprite(ID).ownership, JSON.stringify({ epoch: 1, base: { root: "0".repeat(64), volumeBytes: 65_536 } }));
    await rename(store, `${store}-kept`);
    entries.remove(ID);
    await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
    assert.ok(newest().killed > 0);
    assert.notEqual(entries.get(ID)?.status, "running");
  });
});

describe("what is known of a sprite while it sleeps", () => {
  const LAG = { lagMs: 60_000, checkpoints: 2, error: null };
  const rest = () => readRest(paths.sprite(ID));

  test("is noted before the save ends, and gone before the next VM runs", async () => {
    await wake();
    said = { storedAs: "w1", lag: LAG };
    newest().onSave = async () => {
      assert.equal((await rest()).behind?.checkpoints, 2, "a daemon that is killed now must not forget it");
    };
    await inOrder((entry) => lifecycle.sleep(entry));
    assert.deepEqual([(await rest()).storedAs, (await rest()).behind?.checkpoints], ["w1", 2]);
    await wake();
    assert.deepEqual(await rest(), { storedAs: undefined, said: undefined, behind: undefined });
  });

  test("of a pilot that does not answer any more is what it said a moment before", async () => {
    await wake();
    await inOrder((entry) => lifecycle.sleep(entry, LAG));
    assert.equal((await rest()).behind?.checkpoints, 2);
  });

  test("is what the store lacks, when the VM is lost in the middle of its save", async () => {
    await wake();
    said = { storedAs: null, lag: LAG };
    const vm = newest();
    vm.onSave = () => Promise.reject(new HobError("vm_failed", "as the test asked"));
    vm.resume = () => Promise.reject(new HobError("vm_failed", "it cannot go on"));
    await assert.rejects(
      inOrder((entry) => lifecycle.sleep(entry)),
      /as the test asked/,
    );
    assert.deepEqual([(await rest()).behind?.checkpoints, entries.get(ID)?.status], [2, "cold"]);
    await wake();
    assert.equal((await rest()).behind, undefined);
  });

  test("is only what the store lacks when the save fails, and is gone when a later daemon takes the VM over", async () => {
    await wake();
    said = { storedAs: "w1", lag: LAG };
    newest().onSave = () => Promise.reject(new HobError("no_space", "as the test asked"));
    await assert.rejects(
      inOrder((entry) => lifecycle.sleep(entry)),
      /as the test asked/,
    );
    const { behind, ...others } = await rest();
    assert.deepEqual([behind?.checkpoints, others], [2, { storedAs: undefined, said: undefined }]);
    assert.equal(entries.get(ID)?.status, "running");
    await noteRest(paths.sprite(ID), { storedAs: "w1", lag: LAG }, null);
    driver.adoptable = newest();
    await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
    assert.deepEqual([(await rest()).storedAs, (await rest()).behind], [undefined, undefined]);
  });
});
