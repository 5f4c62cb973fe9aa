import { checkKey, checkPrefix } from "./object-key.ts";
import type {
  CallOptions,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  ProbeOptions,
  PutOptions,
  PutResult,
  StoreCapabilities,
  StoredObject,
} from "./object-store.ts";

/**
 * The part of a store whose keys start with a prefix, as a store of its own. Keys are checked before they are joined, and
 * no key can contain `..`: there is no way out.
 */
export class PrefixStore implements ObjectStore {
  readonly description: string;
  readonly #inner: ObjectStore;
  readonly #prefix: string;

  /** @param prefix a key without a slash at its end. @throws HobError `invalid_request` */
  constructor(inner: ObjectStore, prefix: string) {
    checkKey(prefix);
    this.#inner = inner;
    this.#prefix = `${prefix}/`;
    this.description = `${inner.description}/${prefix}`;
  }

  async get(key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    return await this.#inner.get(this.#key(key), options);
  }

  async head(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    const info = await this.#inner.head(this.#key(key), options);
    return info === undefined ? undefined : { ...info, key };
  }

  async put(key: string, data: Uint8Array, options?: PutOptions): Promise<PutResult> {
    return await this.#inner.put(this.#key(key), data, options);
  }

  async delete(key: string, options?: CallOptions): Promise<void> {
    await this.#inner.delete(this.#key(key), options);
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    checkPrefix(prefix);
    const { after } = options;
    const page = await this.#inner.list(this.#prefix + prefix, {
      ...options,
      ...(after === undefined ? {} : { after: this.#prefix + after }),
    });
    const strip = (key: string): string => key.slice(this.#prefix.length);
    return {
      objects: page.objects.map((object) => ({ ...object, key: strip(object.key) })),
      ...(page.next === undefined ? {} : { next: strip(page.next) }),
    };
  }

  async probe(options: ProbeOptions = {}): Promise<StoreCapabilities> {
    return await this.#inner.probe({ ...options, prefix: this.#prefix + (options.prefix ?? "") });
  }

  #key(key: string): string {
    checkKey(key);
    return this.#prefix + key;
  }
}
