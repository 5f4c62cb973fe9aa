import { HobError } from "@hob/protocol";
import { decodeChunk } from "../format/chunk-codec.ts";
import { damaged } from "../format/damage.ts";
import { sha256 } from "../format/hash.ts";
import type { OrgKeys } from "../format/keys.ts";
import { decodePack, decodePackFooter, decodePackIndex, PACK_ENTRY_BYTES, PACK_FOOTER_BYTES, type PackEntry } from "../format/pack.ts";
import type { ChunkRef } from "../map/chunk-ref.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { mapLimit } from "../util/concurrency.ts";
import { Lru } from "../util/lru.ts";

/** Entries of verified packs kept in memory; one takes some 200 bytes. */
const REMEMBERED_ENTRIES = 200_000;

/** Chunks of one pack decompressed side by side. */
const CONCURRENT_CHUNKS = 4;

type PackIndex = ReadonlyMap<number, PackEntry>;

/**
 * Verifies chunks by verifying their packs: each pack is read once as a whole. Of one that is damaged the chunks are
 * verified one by one.
 */
export class PackCheck {
  packs = 0;
  chunks = 0;
  bytesRead = 0;
  /** packs that are not what they are named by, and why */
  readonly damaged = new Map<string, string>();
  readonly #whole = new Set<string>();
  readonly #indexes = new Lru<string, PackIndex>(REMEMBERED_ENTRIES);
  readonly #store: ObjectStore;
  readonly #keys: OrgKeys;

  constructor(store: ObjectStore, keys: OrgKeys) {
    this.#store = store;
    this.#keys = keys;
  }

  /** What is wrong with this chunk; undefined when it is right. @throws what the store throws */
  async problem(ref: ChunkRef): Promise<string | undefined> {
    const index = await this.#index(ref.pack);
    if (index === undefined) return await this.problemOfChunk(ref);
    const entry = index.get(ref.offset);
    if (entry?.hash === ref.hash && entry.storedBytes === ref.storedBytes && entry.encoding === ref.encoding) return undefined;
    return `${this.#keys.pack(ref.pack)} has another chunk at offset ${ref.offset}`;
  }

  /** undefined when the pack is damaged. */
  async #index(pack: string): Promise<PackIndex | undefined> {
    if (this.damaged.has(pack)) return undefined;
    const known = this.#indexes.get(pack);
    if (known !== undefined) return known;
    try {
      const entries = this.#whole.has(pack) ? await this.#readIndex(pack) : await this.#verify(pack);
      this.#whole.add(pack);
      const index = new Map(entries.map((entry) => [entry.offset, entry]));
      this.#indexes.set(pack, index, index.size);
      return index;
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.damaged.set(pack, error.message);
      return undefined;
    }
  }

  async #verify(pack: string): Promise<PackEntry[]> {
    const key = this.#keys.pack(pack);
    this.packs++;
    const bytes = await this.#get(key);
    if (sha256(bytes) !== pack) throw damaged(key, "does not match the checksum that it is named by");
    const entries = decodePack(key, bytes);
    await mapLimit(entries, CONCURRENT_CHUNKS, async ({ offset, storedBytes, encoding, hash }) => {
      await decodeChunk(key, { encoding, bytes: bytes.subarray(offset, offset + storedBytes) }, hash);
      this.chunks++;
    });
    return entries;
  }

  /** Of a pack that was verified before, and forgotten. */
  async #readIndex(pack: string): Promise<PackEntry[]> {
    const key = this.#keys.pack(pack);
    const sizeBytes = (await this.#store.head(key))?.sizeBytes ?? 0;
    const footer = decodePackFooter(key, await this.#get(key, sizeBytes - PACK_FOOTER_BYTES, PACK_FOOTER_BYTES), sizeBytes);
    return decodePackIndex(key, await this.#get(key, footer.indexOffset, footer.chunks * PACK_ENTRY_BYTES), footer);
  }

  /** As `problem`, and reads no more than the chunk. */
  async problemOfChunk(ref: ChunkRef): Promise<string | undefined> {
    const key = this.#keys.pack(ref.pack);
    try {
      const bytes = await this.#get(key, ref.offset, ref.storedBytes);
      if (bytes.length !== ref.storedBytes) throw damaged(key, `ends before byte ${ref.offset + ref.storedBytes}`);
      await decodeChunk(key, { encoding: ref.encoding, bytes }, ref.hash);
      this.chunks++;
      return undefined;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return error.message;
    }
  }

  async #get(key: string, offset?: number, length?: number): Promise<Buffer> {
    const range = offset === undefined || length === undefined ? {} : { range: { offset: Math.max(0, offset), length } };
    const object = await this.#store.get(key, range);
    if (object === undefined) throw damaged(key, "is missing");
    this.bytesRead += object.data.length;
    return object.data;
  }
}

const isDamage = (error: unknown): error is HobError =>
  error instanceof HobError && (error.code === "data_damaged" || error.code === "payload_too_large");
