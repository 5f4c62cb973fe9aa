import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import fc from "fast-check";
import { Origins } from "../src/block-server/origins.ts";
import type { NbdAction } from "../src/helper/system.ts";

const folder = mkdtempSync(join(tmpdir(), "hob-origins-"));
after(() => rmSync(folder, { recursive: true }));
const MINUTE_MS = 60_000;
const DEVICES = 64;

/** The kernel's devices and what is put over them, and the process that serves them. */
class Kernel {
  nowMs = 0;
  readonly directory = mkdtempSync(join(folder, "run-"));
  /** names of what is put over a device, by its number */
  readonly holders = new Map<number, string[]>();
  readonly connected = new Set<number>();
  /** devices that the kernel has not let go of yet */
  readonly busy = new Set<number>();
  failure: Error | undefined;
  /** what was said of the sizes of devices that are there */
  readonly sizes: (number | undefined)[] = [];

  process(): Origins {
    return new Origins({
      helper: { nbd: async (index, action) => this.#nbd(index, action) },
      directory: this.directory,
      sourceOf: async (name, sizeBytes) => {
        this.sizes.push(sizeBytes);
        if (name === "map:broken") throw new HobError("volume_unusable", "there is none");
        return { sizeBytes: 65_536, read: async (_, length) => Buffer.alloc(length) };
      },
      log: { info: () => {}, warn: () => {} },
      holdersOf: async (index) => this.holders.get(index) ?? [],
      appears: async () => {},
      now: () => this.nowMs,
    });
  }

  #nbd(index: number, action: NbdAction): void {
    if (this.failure !== undefined) throw this.failure;
    if (action.kind === "disconnect") {
      this.connected.delete(index);
    } else if (action.kind === "connect") {
      if (this.busy.has(index) || this.connected.has(index)) throw failed(16);
      this.connected.add(index);
    } else if (!this.connected.has(index)) throw failed(22);
  }
}

const failed = (errno: number): HobError => new HobError("helper_failed", `error ${errno}`, { details: { errno } });
const numberOf = (device: string): number => Number(/^\/dev\/nbd(\d+)$/.exec(device)?.[1]);

type Step = { resolve: string } | { drop: number } | { waitMs: number } | "release" | "kill";

/** A kernel, the process of the day, and volumes that are put over devices. */
class World {
  readonly #kernel = new Kernel();
  #origins = this.#kernel.process();
  /** which name a volume was put over the device for */
  readonly #volumes = new Map<number, string>();

  async take(step: Step): Promise<void> {
    if (step === "release") await this.#origins.releaseIdle();
    else if (step === "kill") {
      await this.#origins[Symbol.asyncDispose]();
      this.#origins = this.#kernel.process();
      await this.#origins.takeOver();
    } else if ("waitMs" in step) this.#kernel.nowMs += step.waitMs;
    else if ("drop" in step) {
      this.#volumes.delete(step.drop);
      this.#kernel.holders.delete(step.drop);
    } else await this.#resolve(step.resolve);
    for (const index of this.#volumes.keys()) assert.ok(this.#kernel.connected.has(index), `/dev/nbd${index} is needed`);
  }

  async end(): Promise<void> {
    this.#kernel.holders.clear();
    this.#kernel.nowMs += MINUTE_MS;
    await this.#origins.releaseIdle();
    assert.deepEqual([...this.#kernel.connected], []);
    await this.#origins[Symbol.asyncDispose]();
  }

  async #resolve(name: string): Promise<void> {
    const index = numberOf(await this.#origins.resolve(name));
    assert.equal(this.#volumes.get(index) ?? name, name, "another name's device");
    this.#volumes.set(index, name);
    this.#kernel.holders.set(index, ["dm-1"]);
  }
}

describe("devices over the object store", () => {
  test("one for each name; given up when no volume needs it, and not a moment before", async () => {
    const kernel = new Kernel();
    await using origins = kernel.process();
    const [a, again, b] = await Promise.all(["map:a", "map:a", "map:b"].map((name) => origins.resolve(name)));
    assert.equal(a, again);
    assert.notEqual(a, b);
    assert.equal(await origins.releaseIdle(), 0, "somebody has just asked for both");
    kernel.holders.set(numberOf(a ?? ""), ["dm-4"]);
    kernel.nowMs += MINUTE_MS;
    assert.equal(await origins.releaseIdle(), 1);
    assert.deepEqual([...kernel.connected], [numberOf(a ?? "")], "a volume is put over it");
    assert.equal(existsSync(join(kernel.directory, `origin-${numberOf(b ?? "")}.sock`)), false, "its server is gone");
    assert.equal(await origins.resolve("map:b"), b, "its number is free again");
    kernel.holders.clear();
    kernel.nowMs += MINUTE_MS;
    assert.equal(await origins.releaseIdle(), 2);
    assert.deepEqual([...kernel.connected], []);
  });

  test("when all are taken, idle ones make room; when none is idle, the caller is told", async () => {
    const kernel = new Kernel();
    await using origins = kernel.process();
    for (let number = 0; number < DEVICES; number++) kernel.holders.set(numberOf(await origins.resolve(`map:${number}`)), ["dm-0"]);
    kernel.nowMs += MINUTE_MS;
    await assert.rejects(origins.resolve("map:more"), (error) => error instanceof HobError && error.code === "volume_unusable");
    kernel.holders.delete(7);
    assert.equal(await origins.resolve("map:more"), "/dev/nbd7");
    assert.equal(kernel.connected.size, DEVICES);
  });

  test("a device that the kernel still holds is passed over; one that cannot be made leaves nothing", async () => {
    const kernel = new Kernel();
    kernel.busy.add(0).add(1);
    await using origins = kernel.process();
    assert.equal(await origins.resolve("map:a"), "/dev/nbd2");
    await assert.rejects(origins.resolve("map:broken"));
    kernel.failure = failed(19);
    await assert.rejects(origins.resolve("map:b"));
    kernel.failure = undefined;
    kernel.busy.clear();
    assert.equal(await origins.resolve("map:b"), "/dev/nbd0");
  });

  test("who takes a device over is told its size: the volume may not be there yet to ask", async () => {
    const kernel = new Kernel();
    {
      await using origins = kernel.process();
      await origins.resolve("map:a");
    }
    await using origins = kernel.process();
    await origins.takeOver();
    assert.deepEqual(kernel.sizes, [undefined, 65_536]);
  });

  test("one that cannot be given up goes on being served", async () => {
    const kernel = new Kernel();
    await using origins = kernel.process();
    const device = await origins.resolve("map:a");
    kernel.nowMs += MINUTE_MS;
    kernel.failure = failed(5);
    assert.equal(await origins.releaseIdle(), 0);
    kernel.failure = undefined;
    assert.equal(await origins.resolve("map:a"), device);
    assert.ok(existsSync(join(kernel.directory, `origin-${numberOf(device)}.sock`)));
  });

  test("whatever happens, also to its process: no device is used for two names, and none that is needed is given up", () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ resolve: fc.constantFrom("map:a", "map:b", "map:c", "map:d") }) },
      { weight: 2, arbitrary: fc.record({ drop: fc.nat(3) }) },
      { weight: 2, arbitrary: fc.record({ waitMs: fc.constantFrom(1_000, MINUTE_MS) }) },
      { weight: 2, arbitrary: fc.constant("release" as const) },
      { weight: 1, arbitrary: fc.constant("kill" as const) },
    );
    return fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const world = new World();
        for (const one of steps) await world.take(one);
        await world.end();
      }),
      { numRuns: 60 },
    );
  });
});
