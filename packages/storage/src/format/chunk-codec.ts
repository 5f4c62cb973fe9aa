import { setImmediate as nextTurn } from "node:timers/promises";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { Encoding } from "../map/chunk-ref.ts";
import { damaged } from "./damage.ts";
import { sha256 } from "./hash.ts";
import { BLOCK_BYTES } from "./limits.ts";

/** zstd's fastest level that is not negative: an upload competes with the sprite for its processor. */
const LEVEL = 1;

export interface StoredChunk {
  encoding: Encoding;
  bytes: Buffer;
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

export const isZeroBlock = (data: Buffer): boolean => data.equals(ZEROS);

/** A block of zeros that is the caller's own. */
export const zeroBlock = (): Buffer => Buffer.alloc(BLOCK_BYTES);

/**
 * Not on libuv's threads, and in one piece: for so little, the way there and back, and the pieces that Node.js puts together,
 * cost ten times what zstd does. A chunk takes well below a millisecond, about one under emulation, and has a turn of the event
 * loop for itself: whoever shares the thread waits for one chunk, not for all of a pack.
 */
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: LEVEL }, chunkSize: BLOCK_BYTES + 1024 };
const UNZSTD = { maxOutputLength: BLOCK_BYTES, chunkSize: BLOCK_BYTES + 1024 };

/** The stored form of one block. */
export async function encodeChunk(data: Buffer): Promise<StoredChunk> {
  await nextTurn();
  const packed = zstdCompressSync(data, ZSTD);
  return packed.length < BLOCK_BYTES ? { encoding: Encoding.zstd, bytes: packed } : { encoding: Encoding.raw, bytes: data };
}

/**
 * The block of a stored chunk, checked against its hash; never more than one block is allocated for it.
 *
 * @throws HobError `data_damaged` in the name of `key`
 */
export async function decodeChunk(key: string, chunk: StoredChunk, hash: string): Promise<Buffer> {
  await nextTurn();
  const data = chunk.encoding === Encoding.raw ? chunk.bytes : unpack(key, chunk.bytes);
  if (data.length !== BLOCK_BYTES) throw damaged(key, `holds a chunk of ${data.length} bytes`);
  if (sha256(data) !== hash) throw damaged(key, `holds a chunk whose content is not that of its hash ${hash}`);
  return data;
}

function unpack(key: string, bytes: Buffer): Buffer {
  try {
    return zstdDecompressSync(bytes, UNZSTD);
  } catch (cause) {
    throw damaged(key, "holds a chunk that cannot be decompressed", cause);
  }
}

/** What the format allows for the length of a stored chunk. */
export const isStoredLength = (encoding: number, length: number): boolean =>
  encoding === Encoding.raw ? length === BLOCK_BYTES : encoding === Encoding.zstd && length >= 1 && length < BLOCK_BYTES;
