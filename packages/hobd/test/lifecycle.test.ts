import assert from "node:assert/strict";
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { ImageSet } from "@hob/images";
import { HobError, type Identity, NO_POLICIES, PILOT_ROUTES } from "@hob/protocol";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { pino } from "pino";
import { SpriteStorage } from "../src/object-store/sprite-storage.ts";
import { SpriteEntries, type SpriteEntry } from "../src/runtime/entries.ts";
import { VmLifecycle } from "../src/runtime/lifecycle.ts";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { noteRest, readRest } from "../src/runtime/rest.ts";
import { StorageLinks } from "../src/runtime/storage-link.ts";
import type { TemplateStore } from "../src/runtime/templates.ts";
import type { Vm, VmConfig, VmmDriver } from "../src/vmm/driver.ts";
import { temporaryHome, until } from "./support/test-daemon.ts";

const ID = "sprite-3f1c0c1e-0000-4000-8000-00000000000a";
const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const IDENTITY: Identity = {
  ...{ id: ID, name: "box", organization: "hob", url: "http://box", machineId: "0".repeat(32), pilotToken: "t".repeat(64) },
  ...{ environment: {}, policies: NO_POLICIES },
};

/** A VM without a machine: a folder of sockets as QEMU leaves it, and a pilot that accepts everything. */
class FakeVm implements Vm {
  readonly pid = 1;
  readonly pilotPort: number;
  readonly #directory: string;
  readonly #exit = Promise.withResolvers<void>();
  readonly exited = this.#exit.promise;
  killed = 0;

  constructor({ directory }: VmConfig, pilotPort: number) {
    this.#directory = directory;
    this.pilotPort = pilotPort;
  }

  async pause(): Promise<void> {}
  async resume(): Promise<void> {}
  /** called while it is saved */
  onSave: () => Promise<void> = async () => {};
  async save(stateFile: string): Promise<void> {
    await this.onSave();
    await writeFile(stateFile, "devices");
  }

  async kill(): Promise<void> {
    this.killed++;
    this.#exit.resolve();
    await rm(join(this.#directory, "vm.json"), { force: true });
  }

  /** The VMM ends: its record and sockets stay. */
  crash(): void {
    this.#exit.resolve();
  }
}

class FakeDriver implements VmmDriver {
  readonly vms: FakeVm[] = [];
  failing = false;
  readonly #port: () => number;

  constructor(port: () => number) {
    this.#port = port;
  }

  async fingerprint(): Promise<string> {
    return "fake";
  }

  async boot(config: VmConfig): Promise<Vm> {
    await writeFile(config.consoleLog, "pilot listens\n", { flag: "a" });
    return this.#start(config);
  }

  async restore(config: VmConfig): Promise<Vm> {
    return this.#start(config);
  }

  /** of an earlier daemon */
  left: FakeVm | undefined;
  async adopt(): Promise<Vm | undefined> {
    return this.left;
  }

  async #start(config: VmConfig): Promise<Vm> {
    await writeFile(join(config.directory, "vm.json"), String(this.vms.length));
    if (this.failing) throw new HobError("missing_tool", "as the test asked");
    const vm = new FakeVm(config, this.#port());
    this.vms.push(vm);
    return vm;
  }
}

describe("what there is of a VM", () => {
  let cleanUp: AsyncDisposableStack;
  let paths: RuntimePaths;
  let entries: SpriteEntries;
  let lifecycle: VmLifecycle;
  let driver: FakeDriver;
  let storeFolder = "";
  let refusing = false;
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
      const body = JSON.stringify(isFreeze ? said : { protocol: 2 });
      const refuses = refusing || (isFreeze && said === undefined);
      request.once("end", () => response.writeHead(refuses ? 500 : 200, { "Content-Type": "application/json" }).end(body));
    });
    refusing = false;
    said = undefined;
    await new Promise<void>((resolve) => pilot.listen(0, "127.0.0.1", resolve));
    cleanUp.defer(() => void pilot.close());
    cleanUp.defer(() => pilot.closeAllConnections());
    paths = new RuntimePaths(home.path, join(home.path, "cache"));
    cleanUp.defer(() => rm(paths.run, { recursive: true, force: true }));
    entries = new SpriteEntries();
    driver = new FakeDriver(() => (pilot.address() as AddressInfo).port);
    const log = pino({ level: "silent" });
    storeFolder = join(home.path, "store");
    const store = await DirectoryStore.open(storeFolder);
    const links = new StorageLinks(new SpriteStorage({ store, organization: "hob", owner: "test", log }));
    const images = { hash: "images" } as ImageSet;
    lifecycle = new VmLifecycle({ paths, factory: { driver, images }, entries, templates: {} as TemplateStore, links, log });
    await mkdir(paths.sprite(ID).directory, { recursive: true });
    await writeFile(paths.sprite(ID).volume, "");
    cleanUp.defer(async () => {
      await inOrder((entry) => lifecycle.stop(entry)).catch(() => {});
      for (const vm of driver.vms) await vm.kill();
    });
  });
  afterEach(() => cleanUp.disposeAsync());

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
    await until("its folder is gone", () => !existsSync(run()));
    assert.deepEqual([entries.get(ID)?.status, entries.get(ID)?.vm, vm.killed], ["cold", undefined, 1]);
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

  describe("what is known of it while it sleeps", () => {
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

    test("is dropped when the save fails and the sprite goes on, and when a later daemon takes the VM over", async () => {
      await wake();
      said = { storedAs: "w1", lag: LAG };
      newest().onSave = () => Promise.reject(new HobError("no_space", "as the test asked"));
      await assert.rejects(
        inOrder((entry) => lifecycle.sleep(entry)),
        /as the test asked/,
      );
      assert.deepEqual([(await rest()).behind, entries.get(ID)?.status], [undefined, "running"]);
      await noteRest(paths.sprite(ID), { storedAs: "w1", lag: LAG }, null);
      driver.left = newest();
      await inOrder((entry) => lifecycle.adopt(entry, IDENTITY, MACHINE));
      assert.deepEqual([(await rest()).storedAs, (await rest()).behind], [undefined, undefined]);
    });
  });

  test("a sprite of which the store has nothing any more is not started, and its copy stays", async () => {
    await wake();
    await inOrder((entry) => lifecycle.stop(entry));
    await rm(storeFolder, { recursive: true });
    await mkdir(storeFolder);
    await assert.rejects(wake(), { code: "store_failed" });
    const { volume, ownership, state } = paths.sprite(ID);
    assert.deepEqual([volume, ownership, state].map(existsSync), [true, true, true]);
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
