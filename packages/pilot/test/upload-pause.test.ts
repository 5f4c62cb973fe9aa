import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { CommandRunner } from "@hob/linux";
import { BLOCK_BYTES } from "@hob/storage";
import { readChanges } from "../src/durability/changes.ts";
import { Gate } from "../src/durability/gate.ts";
import { type PoolHelper, ThinPool } from "../src/volume/thin-pool.ts";

/** Whether it has come to its end when everything that can go on has. */
async function isSettled(work: Promise<unknown>): Promise<boolean> {
  let settled = false;
  work.then(() => {
    settled = true;
  });
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  return settled;
}

test("a gate is open when all who closed it have opened it again, each once", async () => {
  const gate = new Gate();
  await gate.pass();
  const [first, second] = [gate.close(), gate.close()];
  const passing = gate.pass();
  first();
  first();
  assert.equal(await isSettled(passing), false);
  second();
  await passing;
  const third = gate.close();
  assert.equal(await isSettled(gate.pass()), false);
  third();
});

test("what holds nothing any more is not read", async () => {
  const ranges = (async function* () {
    yield { first: 2 ** 20, count: 3, isHole: true };
  })();
  const holes: unknown[] = [];
  const mayRead = async () => assert.fail("nothing is read");
  for await (const { block, data } of readChanges("/dev/null", ranges, { volumeBytes: 2 ** 40, mayRead })) holes.push(block, data);
  assert.deepEqual(holes, [2 ** 20, undefined, 2 ** 20 + 1, undefined, 2 ** 20 + 2, undefined]);
});

test("the last block of a volume may be short, and a device that ends before its volume is not uploaded as zeros", async () => {
  const directory = mkdtempSync(join(tmpdir(), "hob-changes-"));
  try {
    const device = join(directory, "device");
    const bytes = BLOCK_BYTES + 4_096;
    writeFileSync(device, Buffer.alloc(bytes, "data"));
    const read = async (volumeBytes: number) => {
      const ranges = (async function* () {
        yield { first: 0, count: 2, isHole: false };
      })();
      const blocks: Buffer[] = [];
      for await (const { data } of readChanges(device, ranges, { volumeBytes, mayRead: async () => {} })) blocks.push(data as Buffer);
      return Buffer.concat(blocks);
    };
    assert.deepEqual(await read(bytes), Buffer.concat([Buffer.alloc(bytes, "data")], 2 * BLOCK_BYTES));
    await assert.rejects(read(bytes + 512), /ends after/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("what is uploaded is not read while that is paused, and read to the end afterwards", async () => {
  const directory = mkdtempSync(join(tmpdir(), "hob-changes-"));
  try {
    const device = join(directory, "device");
    writeFileSync(device, Buffer.alloc(40 * BLOCK_BYTES, "before"));
    const gate = new Gate();
    const ranges = (async function* () {
      yield { first: 0, count: 40, isHole: false };
    })();
    let asked = 0;
    const mayRead = () => {
      asked++;
      return gate.pass();
    };
    const changes = readChanges(device, ranges, { volumeBytes: 40 * BLOCK_BYTES, mayRead });
    // Told at once: the memory is used again.
    const kindOf = (data: Buffer | undefined) => (data?.includes("before") ? "before" : "after");
    const kinds = [kindOf((await changes.next()).value?.data)];
    const goOn = gate.close();
    // What was read before may be taken.
    while (kinds.length < 16) kinds.push(kindOf((await changes.next()).value?.data));
    const next = changes.next();
    assert.equal(await isSettled(next), false);
    assert.equal(asked, 2);
    // A read that has begun all the same gets what is there now.
    await sleep(50);
    writeFileSync(device, Buffer.alloc(40 * BLOCK_BYTES, "after"));
    goOn();
    kinds.push(kindOf((await next).value?.data));
    for await (const { data } of changes) kinds.push(kindOf(data));
    assert.deepEqual(kinds, [...Array(16).fill("before"), ...Array(24).fill("after")]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("snapshots of a mounted volume are taken one after the other, also after one that failed", async () => {
  const under: (() => void)[] = [];
  let calls = 0;
  const dmSnapshot = () => {
    calls++;
    return new Promise<number>((resolve, reject) => {
      under.push(() => (calls === 1 ? reject(new Error("no snapshot")) : resolve(calls)));
    });
  };
  const pool = new ThinPool({ dmSnapshot } as unknown as PoolHelper, {} as CommandRunner);
  const [first, second] = [pool.snapshotMounted(1, 0, "/volume"), pool.snapshotMounted(2, 0, "/volume")];
  assert.equal(await isSettled(second), false);
  assert.equal(calls, 1);
  under.shift()?.();
  await assert.rejects(first, /no snapshot/);
  assert.equal(await isSettled(second), false);
  under.shift()?.();
  assert.equal(await second, 2);
});
