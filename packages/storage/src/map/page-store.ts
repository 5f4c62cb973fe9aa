import { damaged, damagedWhenTooLarge } from "../format/damage.ts";
import { sha256 } from "../format/hash.ts";
import { OrgKeys } from "../format/keys.ts";
import { decodePage, encodePage, MAX_PAGE_BYTES, type Page, saltOf, storedBlocks } from "../format/page.ts";
import type { CallOptions, ObjectStore } from "../store/object-store.ts";
import { Lru } from "../util/lru.ts";

export interface PageStoreOptions {
  store: ObjectStore;
  org: string;
  /** decoded pages kept; one takes 10 to 50 KB. Default 256 */
  cachedPages?: number;
}

interface Cached {
  readonly page: Page;
  readonly salt: Buffer;
}

/** The pages of one organization: loaded with verification, cached, and saved. */
export class PageStore {
  readonly store: ObjectStore;
  readonly keys: OrgKeys;
  readonly #cache: Lru<string, Cached>;
  readonly #loading = new Map<string, Promise<Page>>();
  #requests = 0;
  #bytesFetched = 0;

  constructor(options: PageStoreOptions) {
    this.store = options.store;
    this.keys = new OrgKeys(options.org);
    this.#cache = new Lru(options.cachedPages ?? 256);
  }

  /** What came over the wire. */
  get stats(): Readonly<{ requests: number; bytesFetched: number }> {
    return { requests: this.#requests, bytesFetched: this.#bytesFetched };
  }

  /**
   * The page of this name.
   *
   * @param blocks what the parent says of it
   * @throws HobError `data_damaged`, and what the store throws
   */
  async load(name: string, level: number, blocks?: number): Promise<Page> {
    const page = this.#cache.get(name)?.page ?? (await this.#fetchOnce(name));
    if (page.level !== level) throw damaged(this.keys.page(name), `is of level ${page.level} where one of level ${level} belongs`);
    const stored = storedBlocks(page);
    if (blocks !== undefined && blocks !== stored) throw damaged(this.keys.page(name), `holds ${stored} blocks, its parent says ${blocks}`);
    return page;
  }

  async save(page: Page, options: CallOptions = {}): Promise<{ name: string; sizeBytes: number }> {
    const { name, bytes } = encodePage(page);
    await this.store.put(this.keys.page(name), bytes, options);
    this.#cache.set(name, { page, salt: saltOf(bytes) });
    return { name, sizeBytes: bytes.length };
  }

  /** The page of this name as the store should have it, if it is in the cache: what the store has is not looked at. */
  cached(name: string): Buffer | undefined {
    const cached = this.#cache.get(name);
    return cached === undefined ? undefined : encodePage(cached.page, cached.salt).bytes;
  }

  /** Loads of one page at the same time are one request. */
  #fetchOnce(name: string): Promise<Page> {
    const running = this.#loading.get(name);
    if (running !== undefined) return running;
    const load = this.#fetch(name).finally(() => this.#loading.delete(name));
    this.#loading.set(name, load);
    return load;
  }

  async #fetch(name: string): Promise<Page> {
    const key = this.keys.page(name);
    const object = await this.store.get(key, { maxBytes: MAX_PAGE_BYTES }).catch(damagedWhenTooLarge(key));
    this.#requests++;
    if (object === undefined) throw damaged(key, "is missing");
    this.#bytesFetched += object.data.length;
    if (sha256(object.data) !== name) throw damaged(key, "does not match the checksum that it is named by");
    const page = decodePage(key, object.data);
    this.#cache.set(name, { page, salt: saltOf(object.data) });
    return page;
  }
}
