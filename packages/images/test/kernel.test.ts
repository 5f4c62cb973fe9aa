import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { HobError } from "@hob/protocol";
import { extractVmlinux } from "../src/kernel.ts";

const SETUP_SECTORS = 3;
/** of the protected-mode code, at which the compressed kernel begins */
const PAYLOAD_OFFSET = 0x2d4;

/** A bzImage as "The Linux/x86 Boot Protocol" has it: setup sectors, some code, the payload with its size behind, more code. */
function bzImage(compressed: Buffer, { setupSectors = SETUP_SECTORS, sizeBytes = 4096 } = {}): Buffer {
  const start = (setupSectors + 1) * 512 + PAYLOAD_OFFSET;
  const image = Buffer.alloc(start + compressed.length + 4 + 100, 0xcc);
  image.writeUInt8(setupSectors === 4 ? 0 : setupSectors, 0x1f1);
  image.write("HdrS", 0x202, "latin1");
  image.writeUInt32LE(PAYLOAD_OFFSET, 0x248);
  image.writeUInt32LE(compressed.length + 4, 0x24c);
  compressed.copy(image, start);
  image.writeUInt32LE(sizeBytes, start + compressed.length);
  return image;
}

const elf = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(4092, 7)]);

const refused = (image: Buffer, message: RegExp) =>
  assert.throws(
    () => extractVmlinux(image),
    (error: unknown) => error instanceof HobError && error.code === "image_build_failed" && message.test(error.message),
  );

describe("the kernel in a bzImage", () => {
  test("is found whatever the compression that Debian uses", () => {
    assert.deepEqual(extractVmlinux(bzImage(gzipSync(elf))), elf);
    assert.deepEqual(extractVmlinux(bzImage(zstdCompressSync(elf))), elf);
  });

  test("is found behind any number of setup sectors; 0 stands for 4", () => {
    for (const setupSectors of [1, 4, 31]) assert.deepEqual(extractVmlinux(bzImage(gzipSync(elf), { setupSectors })), elf);
  });
});

describe("no kernel is taken from", () => {
  test("what is no bzImage", () => {
    refused(Buffer.alloc(0), /not a bzImage/);
    refused(Buffer.alloc(0x1000), /not a bzImage/);
    refused(bzImage(gzipSync(elf)).subarray(0, 0x250), /not a bzImage/);
    refused(elf, /not a bzImage/);
  });

  test("a payload that is no ELF file", () => refused(bzImage(gzipSync(Buffer.alloc(100))), /no ELF file/));

  test("a compression that is not supported, which the message names", () => {
    refused(bzImage(deflateSync(elf)), /magic 789c/);
  });

  test("a damaged or cut payload", () => {
    const damaged = zstdCompressSync(elf);
    damaged.fill(0xff, 6);
    for (const image of [bzImage(damaged), bzImage(gzipSync(elf)).subarray(0, 0x900)]) assert.throws(() => extractVmlinux(image));
  });
});
