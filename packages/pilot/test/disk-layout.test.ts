import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { diskBytes, diskLayout, diskLayoutOfSize, HobError, MACHINE_LIMITS } from "@hob/protocol";
import fc from "fast-check";
import { DataDisk } from "../src/volume/data-disk.ts";
import { decodeLabel, encodeLabel, LABEL_BYTES } from "../src/volume/disk-label.ts";

const sizes = fc.integer({ min: MACHINE_LIMITS.storageGb.min, max: MACHINE_LIMITS.storageGb.max });
const unusable = (error: unknown) => error instanceof HobError && error.code === "volume_unusable";

describe("layout", () => {
  test("every size of volume has a disk of its own size, whose parts do not overlap", () => {
    fc.assert(
      fc.property(sizes, (gb) => {
        const layout = diskLayout(gb);
        assert.deepEqual(diskLayoutOfSize(diskBytes(gb)), layout);
        const { state, metadata, data } = layout;
        assert.ok(state.offset >= LABEL_BYTES && metadata.offset >= state.offset + state.length);
        assert.ok(data.offset >= metadata.offset + metadata.length && diskBytes(gb) >= data.offset + data.length);
        assert.ok(data.length >= 2 * layout.volumeBytes, "room for a checkpoint of a full volume");
        assert.ok(metadata.length <= 255 * 2 ** 14 * 4096, "what device-mapper can use");
        for (const { offset, length } of [state, metadata, data]) assert.ok(offset % 2 ** 20 === 0 && length % 2 ** 20 === 0);
      }),
    );
  });

  test("a disk of any other size has none", () => {
    for (const bytes of [0, 1, 100 * 1024 ** 3, diskBytes(1) + 1]) assert.equal(diskLayoutOfSize(bytes), undefined);
  });
});

describe("label", () => {
  test("decodes to what was encoded", () => {
    fc.assert(
      fc.property(sizes, fc.constantFrom("formatting" as const, "ready" as const), (gb, state) => {
        const label = { state, layout: diskLayout(gb) };
        assert.deepEqual(decodeLabel(encodeLabel(label)), label);
      }),
    );
  });

  test("a flipped bit is noticed", () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: LABEL_BYTES * 8 - 1 }), (gb, bit) => {
        const label = encodeLabel({ state: "ready", layout: diskLayout(gb) });
        label[bit >> 3] = (label[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        try {
          assert.equal(decodeLabel(label), undefined);
        } catch (error) {
          assert.ok(unusable(error), String(error));
        }
      }),
    );
  });

  test("another version is refused by name", () => {
    const label = encodeLabel({ state: "ready", layout: diskLayout(1) });
    label.writeUInt32LE(2, 8);
    assert.throws(() => decodeLabel(label), unusable);
  });
});

describe("disk", () => {
  let directory = "";
  let path = "";
  let mapped: string[] = [];
  const helper = { dmCreate: async (name: string) => void mapped.push(name) };
  const disk = () => new DataDisk(path, helper);
  const never = () => assert.fail("formatted");

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "hob-disk-"));
    path = join(directory, "disk");
    mapped = [];
    const file = openSync(path, "w");
    ftruncateSync(file, diskBytes(1));
    closeSync(file);
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test("a new one is formatted once", async () => {
    let formats = 0;
    await disk().open(async () => void formats++);
    const { layout } = await disk().open(never);
    assert.equal(formats, 1);
    assert.deepEqual(layout, diskLayout(1));
    assert.deepEqual(mapped, [...mapped.slice(0, 3), "state", "pool-metadata", "pool-data"]);
  });

  test("a format that was cut off is begun anew", async () => {
    const killed = async () => {
      const file = openSync(path, "r+");
      writeSync(file, Buffer.from("half a file system"), 0, 18, 4096);
      closeSync(file);
      throw new Error("killed");
    };
    await assert.rejects(disk().open(killed), /killed/);
    let formats = 0;
    await disk().open(async () => void formats++);
    assert.equal(formats, 1);
  });

  test("a disk with anything else on it is refused and left as it is", async () => {
    for (const [offset, bytes] of [
      [1080, Buffer.from([0x53, 0xef])],
      [65_600, Buffer.from("_BHRfS_M")],
      [1024 ** 2 - 1, Buffer.from([1])],
    ] as const) {
      writeFileSync(path, "");
      const file = openSync(path, "r+");
      ftruncateSync(file, diskBytes(1));
      writeSync(file, bytes, 0, bytes.length, offset);
      closeSync(file);
      await assert.rejects(disk().open(never), unusable);
      assert.ok(readHead(path, 512).every((byte) => byte === 0));
    }
  });

  test("a disk of a size that fits no volume is refused", async () => {
    const file = openSync(path, "r+");
    ftruncateSync(file, diskBytes(1) + 512);
    closeSync(file);
    await assert.rejects(disk().open(never), /fits no volume/);
  });

  test("a disk that ends within what is looked at is refused", async () => {
    writeFileSync(path, Buffer.alloc(512));
    await assert.rejects(disk().open(never), /it ends after 512/);
  });

  test("a damaged label is no blank disk", async () => {
    await disk().open(async () => {});
    const file = openSync(path, "r+");
    writeSync(file, Buffer.from([0xff]), 0, 1, 20);
    closeSync(file);
    await assert.rejects(disk().open(never), unusable);
  });
});

function readHead(path: string, bytes: number): Buffer {
  const fd = openSync(path, "r");
  try {
    return readFileSync(fd).subarray(0, bytes);
  } catch {
    return Buffer.alloc(bytes);
  } finally {
    closeSync(fd);
  }
}
