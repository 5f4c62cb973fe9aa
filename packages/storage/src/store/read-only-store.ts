import { HobError } from "@hob/protocol";
import type {
  CallOptions,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  PutResult,
  StoreCapabilities,
  StoredObject,
} from "./object-store.ts";

/** Another store, for reading: every change is refused with `invalid_request`. */
export class ReadOnlyStore implements ObjectStore {
  readonly description: string;
  readonly #inner: ObjectStore;

  constructor(inner: ObjectStore) {
    this.#inner = inner;
    this.description = `${inner.description}, for reading`;
  }

  get(key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    return this.#inner.get(key, options);
  }

  head(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    return this.#inner.head(key, options);
  }

  list(prefix: string, options?: ListOptions): Promise<ListPage> {
    return this.#inner.list(prefix, options);
  }

  async put(key: string): Promise<PutResult> {
    throw refused("write", key);
  }

  async delete(key: string): Promise<void> {
    throw refused("delete", key);
  }

  /** The inner store's verdict would take a trial: who only reads needs none. */
  async probe(): Promise<StoreCapabilities> {
    return { conditionalWrites: false };
  }
}

const refused = (what: string, key: string): HobError =>
  new HobError("invalid_request", `cannot ${what} ${JSON.stringify(key.slice(0, 200))}: the store is open for reading only`);
