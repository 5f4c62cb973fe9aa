import { HobError } from "@hob/protocol";
import type * as store from "../../src/store/object-store.ts";

export type Operation = "get" | "head" | "put" | "delete" | "list";

/** `before`: it fails and nothing was done; `after`: it was done, and the answer was lost; `late`: done, after a while. */
export type Fault = "none" | "before" | "after" | "late";

/** A store that fails as it is told, with the error of a store that is away for the moment. */
export class FaultyStore implements store.ObjectStore {
  readonly description = "faulty";
  /** asked at each operation */
  decide: (operation: Operation, key: string) => Fault = () => "none";
  readonly calls: { operation: Operation; key: string }[] = [];
  readonly #inner: store.ObjectStore;

  constructor(inner: store.ObjectStore) {
    this.#inner = inner;
  }

  get(key: string, options?: store.GetOptions): Promise<store.StoredObject | undefined> {
    return this.#run("get", key, () => this.#inner.get(key, options));
  }

  head(key: string, options?: store.CallOptions): Promise<store.ObjectInfo | undefined> {
    return this.#run("head", key, () => this.#inner.head(key, options));
  }

  put(key: string, data: Uint8Array, options?: store.PutOptions): Promise<store.PutResult> {
    return this.#run("put", key, () => this.#inner.put(key, data, options));
  }

  delete(key: string, options?: store.CallOptions): Promise<void> {
    return this.#run("delete", key, () => this.#inner.delete(key, options));
  }

  list(prefix: string, options?: store.ListOptions): Promise<store.ListPage> {
    return this.#run("list", prefix, () => this.#inner.list(prefix, options));
  }

  probe(options?: store.ProbeOptions): Promise<store.StoreCapabilities> {
    return this.#inner.probe(options);
  }

  async #run<R>(operation: Operation, key: string, work: () => Promise<R>): Promise<R> {
    this.calls.push({ operation, key });
    const fault = this.decide(operation, key);
    if (fault === "before") throw new HobError("store_unavailable", `fault before ${operation} of ${key}`);
    if (fault === "late") for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
    const result = await work();
    if (fault === "after") throw new HobError("store_unavailable", `fault after ${operation} of ${key}`);
    return result;
  }
}
