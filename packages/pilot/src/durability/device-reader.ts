import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, CHANGES_HELD } from "@hob/storage";
import { fillExactly } from "../read-exactly.ts";

/** Blocks that are read at once. */
const READ_BLOCKS = 16;
/** Room for one read, and for what the receiver still has of those before. */
const RING_BLOCKS = READ_BLOCKS + Math.max(READ_BLOCKS, CHANGES_HELD);

/**
 * Blocks of a device, read past the page cache where that can be done: they are read once, and would push out what the sprite
 * has there, at the price of a copy and of a page to find for each 4 KiB. The memory is used again and again for the same
 * reason: new memory is a page fault for each 4 KiB.
 */
export class DeviceReader implements AsyncDisposable {
  readonly #path: string;
  readonly #ring = alignedMemory(RING_BLOCKS * BLOCK_BYTES);
  #file: FileHandle;
  #isDirect: boolean;
  /** where the next block goes in the ring */
  #at = 0;

  private constructor(path: string, file: FileHandle, isDirect: boolean) {
    this.#path = path;
    this.#file = file;
    this.#isDirect = isDirect;
  }

  /** @throws what open(2) fails with */
  static async open(path: string): Promise<DeviceReader> {
    const direct = await open(path, constants.O_RDONLY | constants.O_DIRECT).catch(ifRefused);
    return new DeviceReader(path, direct ?? (await open(path, "r")), direct !== undefined);
  }

  /**
   * One block or more of those asked for, from the first on; zeros where the volume ends within the last. A block is left alone
   * until CHANGES_HELD more were read, and a read was asked for after that.
   * @throws HobError `volume_unusable` for a device that ends before its volume
   */
  async read(first: number, count: number, volumeBytes: number): Promise<Buffer> {
    const blocks = Math.min(count, READ_BLOCKS, RING_BLOCKS - this.#at);
    const data = this.#ring.subarray(this.#at * BLOCK_BYTES, (this.#at + blocks) * BLOCK_BYTES);
    this.#at = (this.#at + blocks) % RING_BLOCKS;
    const offset = first * BLOCK_BYTES;
    const there = Math.min(data.length, volumeBytes - offset);
    await this.#fill(offset, data.subarray(0, there));
    data.fill(0, there);
    return data;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #fill(offset: number, data: Buffer): Promise<void> {
    try {
      await fillExactly(this.#file, offset, data);
    } catch (error) {
      if (!this.#isDirect) throw error;
      ifRefused(error);
      await this.#readBuffered();
      await fillExactly(this.#file, offset, data);
    }
  }

  async #readBuffered(): Promise<void> {
    const buffered = await open(this.#path, "r");
    const direct = this.#file;
    this.#file = buffered;
    this.#isDirect = false;
    await direct.close();
  }
}

/** open(2), "O_DIRECT": EINVAL from a file system that knows none, and where address, offset or length have not its alignment. */
function ifRefused(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
}

/** V8 gives memory that may grow pages of its own. Memory of `Buffer.alloc` begins 16 bytes after one. */
const alignedMemory = (bytes: number): Buffer => Buffer.from(new ArrayBuffer(bytes, { maxByteLength: bytes }));
