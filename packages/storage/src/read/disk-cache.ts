import { constants } from "node:fs";
import { type FileHandle, mkdir, open, statfs } from "node:fs/promises";
import { join } from "node:path";
import { BLOCK_BYTES } from "../format/limits.ts";
import { CacheIndex } from "./cache-index.ts";
import type { ChunkCache } from "./types.ts";

/** Chunks that wait to be written; more are not kept. */
const MAX_WAITING = 64;
/** Places taken for the first time between two looks at how full the file system is. */
const GROWTH_PER_CHECK = 64;

export interface DiskCacheOptions {
  /** an existing folder's; made when missing. One cache at a time may use it */
  directory: string;
  /** of chunks; their index takes a thousandth of it besides */
  maxBytes: number;
  /** the cache grows no more when its file system has less free space than this */
  minFreeBytes?: number;
  /** nothing is written before: whoever waits for chunks now needs the processor more. Default: at once */
  writeAfter?: Promise<void>;
}

interface Files {
  index: CacheIndex;
  data: FileHandle;
}

/**
 * Chunks on a local disk: a file of places of one block each, and the index of what is in them. Nothing is synced, and
 * after a crash a place may hold anything: whoever reads compares the content with the hash that he asked for, and `drop`s
 * what is something else. What was used longest ago gives way; uses are remembered for as long as the cache is open.
 */
export class DiskCache implements ChunkCache {
  readonly #options: DiskCacheOptions;
  readonly #slots: number;
  #files: Promise<Files> | undefined;
  #writing: Promise<void>;
  readonly #closing = Promise.withResolvers<void>();
  #waiting = 0;
  #growth = 0;
  #mayGrow = true;

  /** Touches nothing yet. */
  constructor(options: DiskCacheOptions) {
    this.#options = options;
    this.#writing = options.writeAfter === undefined ? Promise.resolve() : Promise.race([options.writeAfter, this.#closing.promise]);
    this.#slots = Math.max(1, Math.floor(options.maxBytes / BLOCK_BYTES));
  }

  /** What it has for this hash, which may be something else. */
  async get(hash: string): Promise<Buffer | undefined> {
    const { index, data } = await this.#open();
    const slot = index.use(hash);
    if (slot === undefined) return undefined;
    const bytes = Buffer.allocUnsafe(BLOCK_BYTES);
    const { bytesRead } = await data.read(bytes, 0, BLOCK_BYTES, slot * BLOCK_BYTES);
    return bytes.subarray(0, bytesRead);
  }

  /** Resolves when it is written, or not worth waiting for. */
  async put(hash: string, data: Buffer): Promise<void> {
    if (data.length !== BLOCK_BYTES || this.#waiting >= MAX_WAITING) return;
    this.#waiting++;
    const written = this.#writing.then(() => this.#write(hash, data));
    this.#writing = written.catch(() => {});
    await written.finally(() => this.#waiting--);
  }

  async drop(hash: string): Promise<void> {
    const { index } = await this.#open();
    await index.drop(hash);
  }

  /** What waits to be written is written first. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.resolve();
    await this.#writing;
    const files = await this.#files?.catch(() => undefined);
    this.#files = Promise.reject(new Error("the cache is closed"));
    this.#files.catch(() => {});
    await files?.index.close();
    await files?.data.close();
  }

  async #write(hash: string, bytes: Buffer): Promise<void> {
    const { index, data } = await this.#open();
    if (index.use(hash) !== undefined) return;
    const slot = index.take(await this.#growthAllowed());
    if (slot === undefined) return;
    try {
      await data.write(bytes, 0, BLOCK_BYTES, slot * BLOCK_BYTES);
      await index.set(slot, hash);
    } catch (error) {
      index.giveBack(slot);
      throw error;
    }
  }

  /** Others need the file system as well. */
  async #growthAllowed(): Promise<boolean> {
    const { directory, minFreeBytes } = this.#options;
    if (minFreeBytes === undefined || this.#growth++ % GROWTH_PER_CHECK !== 0) return this.#mayGrow;
    const { bavail, bsize } = await statfs(directory);
    this.#mayGrow = bavail * bsize > minFreeBytes;
    return this.#mayGrow;
  }

  #open(): Promise<Files> {
    this.#files ??= this.#openFiles();
    return this.#files;
  }

  async #openFiles(): Promise<Files> {
    const { directory } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const index = await CacheIndex.open(join(directory, "index"), this.#slots);
    try {
      const data = await open(join(directory, "chunks"), constants.O_RDWR | constants.O_CREAT, 0o600);
      // Space that the places of another index took.
      if (index.isNew) await data.truncate(0);
      return { index, data };
    } catch (error) {
      await index.close();
      throw error;
    }
  }
}
