import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { HobError } from "@hob/protocol";

/**
 * The uncompressed ELF kernel inside a bzImage. The microVM has no boot loader: QEMU enters the ELF file directly by
 * its PVH note. Offsets are those of "The Linux/x86 Boot Protocol", sections 1.3 and 1.7, protocol 2.08 and later.
 *
 * @throws HobError `image_build_failed` when this is no bzImage or its compression is not supported
 */
export function extractVmlinux(bzImage: Buffer): Buffer {
  if (bzImage.length < 0x260 || bzImage.toString("latin1", 0x202, 0x206) !== "HdrS") {
    throw new HobError("image_build_failed", "read kernel: not a bzImage");
  }
  try {
    return checkElf(unpack(bzImage));
  } catch (cause) {
    if (cause instanceof HobError) throw cause;
    throw new HobError("image_build_failed", "read kernel: the bzImage is damaged", { cause });
  }
}

function unpack(bzImage: Buffer): Buffer {
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  // The last four bytes of the payload are the uncompressed size, not part of the compressed stream.
  return decompress(bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c) - 4));
}

function checkElf(elf: Buffer): Buffer {
  if (elf.toString("latin1", 0, 4) !== "\x7fELF") throw new HobError("image_build_failed", "read kernel: its payload is no ELF file");
  return elf;
}

function decompress(payload: Buffer): Buffer {
  const magic = payload.readUInt32BE(0);
  if (magic === 0x28b52ffd) return zstdDecompressSync(payload);
  if (magic >>> 16 === 0x1f8b) return gunzipSync(payload);
  throw new HobError("image_build_failed", `read kernel: compression with magic ${magic.toString(16)} is not supported`);
}
