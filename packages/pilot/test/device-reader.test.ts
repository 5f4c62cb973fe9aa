import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BLOCK_BYTES, type BlockChange, CHANGES_HELD } from "@hob/storage";
import { readChanges } from "../src/durability/changes.ts";
import { DeviceReader } from "../src/durability/device-reader.ts";

async function withDevice(bytes: Buffer, work: (device: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "hob-device-"));
  try {
    const device = join(directory, "device");
    writeFileSync(device, bytes);
    await work(device);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const filled = (number: number): Buffer => Buffer.alloc(BLOCK_BYTES, String(number).padStart(4));

test("a block is left alone until so many more were read as an upload has in hand", async () => {
  const ranges = [1, 5, 16, 2, 40, 3, 16, 17, 1, 1, 31].map((count, index, all) => ({
    first: all.slice(0, index).reduce((sum, one) => sum + one, 0),
    count,
    isHole: index % 4 === 3,
  }));
  const blocks = ranges.reduce((sum, { count }) => sum + count, 0);
  await withDevice(Buffer.concat(Array.from({ length: blocks }, (_, block) => filled(block))), async (device) => {
    const source = (async function* () {
      yield* ranges;
    })();
    const held: BlockChange[] = [];
    let seen = 0;
    for await (const change of readChanges(device, source, { volumeBytes: blocks * BLOCK_BYTES, mayRead: async () => {} })) {
      assert.equal(change.block, seen++);
      held.push(change);
      if (held.length > CHANGES_HELD) held.shift();
      for (const { block, data } of held) assert.ok(data === undefined || data.equals(filled(block)), `block ${block} at ${seen}`);
    }
    assert.equal(seen, blocks);
  });
});

test("what has a length that cannot be read past the page cache is read all the same, and zeros follow", async () => {
  await withDevice(Buffer.alloc(3 * BLOCK_BYTES, "data"), async (device) => {
    await using reader = await DeviceReader.open(device);
    // The ring has other content then.
    for (let at = 0; at < 20; at++) await reader.read(0, 3, 3 * BLOCK_BYTES);
    const odd = BLOCK_BYTES + 4_099;
    assert.deepEqual(await reader.read(0, 2, odd), Buffer.concat([Buffer.alloc(odd, "data")], 2 * BLOCK_BYTES));
    assert.deepEqual(await reader.read(1, 2, 3 * BLOCK_BYTES), Buffer.alloc(2 * BLOCK_BYTES, "data"));
  });
});

test("a device that is not there is an error", async () => {
  await assert.rejects(DeviceReader.open("/nowhere/device"), { code: "ENOENT" });
});
