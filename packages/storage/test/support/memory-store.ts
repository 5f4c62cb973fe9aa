import { HobError } from "@hob/protocol";
import { sha256 } from "../../src/format/hash.ts";
import { MAX_OBJECT_BYTES } from "../../src/format/limits.ts";
import { probeConditionalWrites } from "../../src/store/conditional-writes.ts";
import { checkGet, checkKey, checkListLimit, checkPrefix, checkSize } from "../../src/store/object-key.ts";
import type * as store from "../../src/store/object-store.ts";

interface Held {
  data: Buffer;
  modifiedAt: Date;
}

/** An object store in memory, for tests that do much; it passes the contract. Its clock can be set. */
export class MemoryStore implements store.ObjectStore {
  readonly description = "memory";
  readonly objects = new Map<string, Held>();
  now: () => number = Date.now;

  async get(key: string, options: store.GetOptions = {}): Promise<store.StoredObject | undefined> {
    checkKey(key);
    const { range, maxBytes } = checkGet(options);
    await turn(options.signal);
    const held = this.objects.get(key);
    if (held === undefined) return undefined;
    const data = range === undefined ? held.data : held.data.subarray(range.offset, range.offset + range.length);
    checkSize(key, data.length, maxBytes);
    return { data: Buffer.from(data), etag: sha256(held.data) };
  }

  async head(key: string, options: store.CallOptions = {}): Promise<store.ObjectInfo | undefined> {
    checkKey(key);
    await turn(options.signal);
    const held = this.objects.get(key);
    return held === undefined ? undefined : { key, sizeBytes: held.data.length, etag: sha256(held.data), modifiedAt: held.modifiedAt };
  }

  async put(key: string, data: Uint8Array, options: store.PutOptions = {}): Promise<store.PutResult> {
    checkKey(key);
    checkSize(key, data.length, MAX_OBJECT_BYTES);
    await turn(options.signal);
    const held = this.objects.get(key);
    const { condition } = options;
    const holds =
      condition === undefined ||
      ("ifMatch" in condition ? held !== undefined && sha256(held.data) === condition.ifMatch : held === undefined);
    if (!holds) throw new HobError("precondition_failed", `object ${key} is another`);
    this.objects.set(key, { data: Buffer.from(data), modifiedAt: new Date(this.now()) });
    return { etag: sha256(data) };
  }

  async delete(key: string, options: store.CallOptions = {}): Promise<void> {
    checkKey(key);
    await turn(options.signal);
    this.objects.delete(key);
  }

  async list(prefix: string, options: store.ListOptions = {}): Promise<store.ListPage> {
    checkPrefix(prefix);
    const limit = checkListLimit(options);
    await turn(options.signal);
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > (options.after ?? "")).sort();
    const objects = keys.slice(0, limit).map((key) => {
      const { data, modifiedAt } = this.objects.get(key) as Held;
      return { key, sizeBytes: data.length, modifiedAt };
    });
    const last = objects.at(-1);
    return { objects, ...(keys.length > limit && last !== undefined ? { next: last.key } : {}) };
  }

  async probe(options: store.ProbeOptions = {}): Promise<store.StoreCapabilities> {
    return await probeConditionalWrites(this, options);
  }
}

/** As over a network, nothing happens before the caller has gone on. */
async function turn(signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  await new Promise(setImmediate);
  signal?.throwIfAborted();
}
