import { randomBytes } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { HobError } from "@hob/protocol";
import { sha256 } from "../format/hash.ts";
import { MAX_OBJECT_BYTES } from "../format/limits.ts";
import { probeConditionalWrites } from "./conditional-writes.ts";
import { keysInOrder } from "./directory-list.ts";
import { DirectoryLock } from "./directory-lock.ts";
import { checkGet, checkKey, checkListLimit, checkPrefix, checkSize } from "./object-key.ts";
import type {
  CallOptions,
  GetOptions,
  ListedObject,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  ProbeOptions,
  PutCondition,
  PutOptions,
  PutResult,
  StoreCapabilities,
  StoredObject,
} from "./object-store.ts";

/** Files of writers that died; no write takes as long. */
const STALE_TEMPORARY_MS = 60 * 60 * 1000;

/** Up to this size the etag is the content's hash. Larger objects never change once they are written. */
const HASHED_ETAG_BYTES = 4 * 1024 * 1024;

/** An object store in a folder of the local machine, which several processes may use at once. Owner-only permissions. */
export class DirectoryStore implements ObjectStore {
  readonly description: string;
  readonly #root: string;
  readonly #temporary: string;
  readonly #lock: DirectoryLock;

  private constructor(root: string) {
    this.#root = root;
    this.description = `dir:${root}`;
    this.#temporary = join(root, ".tmp");
    this.#lock = new DirectoryLock(join(root, ".lock"));
  }

  /**
   * Makes the folder when it is not there, and clears what dead writers left.
   *
   * @param exists it was a store before: one that is not there is not made anew, and answers nothing until it is there again
   * @throws HobError `store_failed`, `no_space`
   */
  static async open(path: string, { exists = false } = {}): Promise<DirectoryStore> {
    const store = new DirectoryStore(resolve(path));
    await store.#guarded("open", async () => {
      if (!exists) await mkdir(store.#temporary, { recursive: true, mode: 0o700 });
      else if (!(await store.#isPresent())) return;
      for (const name of await readdir(store.#temporary)) await store.#removeIfStale(join(store.#temporary, name));
    });
    return store;
  }

  close(): void {
    this.#lock.close();
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    checkKey(key);
    const { range, maxBytes } = checkGet(options);
    options.signal?.throwIfAborted();
    return await this.#guarded(`read ${key}`, () =>
      this.#withFile(key, async (file) => {
        const stats = await file.stat();
        const offset = Math.min(range?.offset ?? 0, stats.size);
        const length = Math.min(range?.length ?? stats.size, stats.size - offset);
        checkSize(key, length, maxBytes);
        const data = await readFully(file, offset, length);
        return { data, etag: length === stats.size ? etagOf(stats, data) : await etagOfFile(file, stats) };
      }),
    );
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    options.signal?.throwIfAborted();
    return await this.#guarded(`look at ${key}`, () => this.#info(key));
  }

  async put(key: string, data: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    checkSize(key, data.length, MAX_OBJECT_BYTES);
    options.signal?.throwIfAborted();
    return await this.#guarded(`write ${key}`, async () => {
      const temporary = join(this.#temporary, `${process.pid}-${randomBytes(12).toString("hex")}`);
      try {
        const stats = await writeDurably(temporary, data);
        options.signal?.throwIfAborted();
        await this.#lock.run(() => this.#moveIntoPlace(temporary, key, options.condition));
        return { etag: etagOf(stats, data) };
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    checkKey(key);
    options.signal?.throwIfAborted();
    await this.#guarded(`delete ${key}`, async () => {
      await this.#requirePresent();
      await this.#lock.run(async () => {
        const path = join(this.#root, key);
        if (!(await ignoring(["ENOENT", "ENOTDIR"], () => unlink(path)))) return;
        await syncFolder(dirname(path));
        await this.#removeEmptyFolders(dirname(path));
      });
    });
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    checkPrefix(prefix);
    const limit = checkListLimit(options);
    return await this.#guarded(`list ${prefix}`, async () => {
      const objects: ListedObject[] = [];
      for await (const key of keysInOrder(this.#root, prefix, options.after ?? "")) {
        options.signal?.throwIfAborted();
        const stats = await this.#stat(key);
        if (stats === undefined) continue;
        if (objects.length === limit) return { objects, next: (objects.at(-1) as ListedObject).key };
        objects.push({ key, sizeBytes: stats.size, modifiedAt: stats.mtime });
      }
      await this.#requirePresent();
      return { objects };
    });
  }

  async probe(options: ProbeOptions = {}): Promise<StoreCapabilities> {
    return await probeConditionalWrites(this, options);
  }

  /** Runs under the lock: nobody else changes anything between the look and the rename. */
  async #moveIntoPlace(temporary: string, key: string, condition: PutCondition | undefined): Promise<void> {
    if (condition !== undefined) {
      const present = await this.#info(key);
      const holds = "ifMatch" in condition ? present?.etag === condition.ifMatch : present === undefined;
      if (!holds) throw new HobError("precondition_failed", `object ${key} is not the one that was to be replaced`);
    }
    const path = join(this.#root, key);
    await makeFolder(dirname(path), this.#root);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  }

  async #info(key: string): Promise<ObjectInfo | undefined> {
    return await this.#withFile(key, async (file) => {
      const stats = await file.stat();
      return { key, sizeBytes: stats.size, etag: await etagOfFile(file, stats), modifiedAt: stats.mtime };
    });
  }

  async #stat(key: string): Promise<Stats | undefined> {
    try {
      const stats = await stat(join(this.#root, key));
      return stats.isFile() ? stats : undefined;
    } catch (error) {
      if (hasCode(error, ["ENOENT", "ENOTDIR"])) return undefined;
      throw error;
    }
  }

  async #withFile<R>(key: string, work: (file: FileHandle) => Promise<R>): Promise<R | undefined> {
    let file: FileHandle;
    try {
      file = await open(join(this.#root, key), constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (!hasCode(error, ["ENOENT", "ENOTDIR"])) throw error;
      await this.#requirePresent();
      return undefined;
    }
    try {
      return (await file.stat()).isFile() ? await work(file) : undefined;
    } finally {
      await file.close();
    }
  }

  /**
   * A folder that is away has lost nothing: its disk may not be mounted. Whoever is told that there is no object acts on it.
   * @throws HobError `store_unavailable`
   */
  async #requirePresent(): Promise<void> {
    if (await this.#isPresent()) return;
    throw new HobError("store_unavailable", `${this.description} is not there, or is not the folder of an object store`, {
      hint: "see whether its disk is mounted",
    });
  }

  #isPresent(): Promise<boolean> {
    return ignoring(["ENOENT", "ENOTDIR"], () => stat(this.#temporary));
  }

  async #removeIfStale(path: string): Promise<void> {
    const stats = await stat(path).catch(() => undefined);
    if (stats !== undefined && Date.now() - stats.mtimeMs > STALE_TEMPORARY_MS) await rm(path, { force: true });
  }

  async #removeEmptyFolders(folder: string): Promise<void> {
    for (let path = folder; path.length > this.#root.length; path = dirname(path)) {
      if (!(await ignoring(["ENOTEMPTY", "EEXIST", "ENOENT"], () => rmdir(path)))) return;
    }
  }

  async #guarded<R>(what: string, work: () => Promise<R>): Promise<R> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Error) || !("syscall" in error)) throw error;
      if (hasCode(error, ["ENOENT"])) await this.#requirePresent();
      const code = hasCode(error, ["ENOSPC", "EDQUOT"])
        ? "no_space"
        : hasCode(error, ["EIO", "ESTALE"])
          ? "store_unavailable"
          : "store_failed";
      const hint = code === "no_space" ? { hint: "make room where the object store is; `hob gc` removes what nothing reaches" } : {};
      throw new HobError(code, `cannot ${what} in ${this.description}: ${error.message}`, { cause: error, ...hint });
    }
  }
}

async function readFully(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const data = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(data, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return data.subarray(0, done);
}

async function writeDurably(path: string, data: Uint8Array): Promise<Stats> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(data);
    await file.sync();
    return await file.stat();
  } finally {
    await file.close();
  }
}

/** A name is durable when its folder is, and a folder when its own is: fsync(2), NOTES. */
async function makeFolder(path: string, root: string): Promise<void> {
  if (path.length <= root.length || (await stat(path).catch(() => undefined)) !== undefined) return;
  await makeFolder(dirname(path), root);
  await ignoring(["EEXIST"], () => mkdir(path, { mode: 0o700 }));
  await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

const etagOf = (stats: Stats, data: Uint8Array): string =>
  stats.size <= HASHED_ETAG_BYTES ? sha256(data) : `${stats.ino}-${stats.size}-${stats.mtimeMs}`;

const etagOfFile = async (file: FileHandle, stats: Stats): Promise<string> =>
  etagOf(stats, stats.size <= HASHED_ETAG_BYTES ? await readFully(file, 0, stats.size) : Buffer.alloc(0));

const hasCode = (error: unknown, codes: readonly string[]): boolean =>
  error instanceof Error && "code" in error && codes.includes(String(error.code));

/** Whether it was done; false when it failed in one of these ways. */
async function ignoring(codes: readonly string[], work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (hasCode(error, codes)) return false;
    throw error;
  }
}
