import { HobError } from "@hob/protocol";
import { checkpointSchema, decodeDocument, headSchema, startSchema } from "../format/documents.ts";
import { isHash, sha256 } from "../format/hash.ts";
import { OrgKeys, type SpriteKeys } from "../format/keys.ts";
import { requireConditionalWrites } from "./conditional-writes.ts";
import type {
  CallOptions,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  PutResult,
  StoreCapabilities,
  StoredObject,
} from "./object-store.ts";

export interface SpriteStoreOptions {
  org: string;
  sprite: string;
  /** who the host has made the owner; heads of others are refused */
  owner: string;
  epoch: number;
}

/**
 * What the VM of one sprite may do with the store. Keys are those of the whole store, so that the pilot uses the same code;
 * everything that is not named here is refused with `invalid_request`:
 *
 * - read packs and pages of the organization by their names, which one must know: they cannot be listed;
 * - write packs and pages whose content has the hash that they are named by;
 * - read and list what is the sprite's own; write checkpoint documents, the record of its start and, with If-Match only, a
 *   head with the owner and epoch that the host has given; delete checkpoint documents. Not `sprite.json`, which is the host's.
 */
export class SpriteStore implements ObjectStore {
  readonly description: string;
  readonly #inner: ObjectStore;
  readonly #options: SpriteStoreOptions;
  readonly #org: OrgKeys;
  readonly #own: SpriteKeys;

  constructor(inner: ObjectStore, options: SpriteStoreOptions) {
    this.#inner = inner;
    this.#options = options;
    this.#org = new OrgKeys(options.org);
    this.#own = this.#org.sprite(options.sprite);
    this.description = `${inner.description} for sprite ${options.sprite}`;
  }

  async get(key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    this.#checkRead(key);
    return await this.#inner.get(key, options);
  }

  async head(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    this.#checkRead(key);
    return await this.#inner.head(key, options);
  }

  async put(key: string, data: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    const contentName = this.#contentName(key);
    if (contentName !== undefined) {
      if (sha256(data) !== contentName) throw refused("write", key, "its content does not have the hash that it is named by");
    } else if (key === this.#own.head) this.#checkHead(key, data, options);
    else if (key.startsWith(this.#own.checkpoints)) this.#checkDocument(key, data);
    else if (key === this.#own.start) this.#checkStart(key, data);
    else throw refused("write", key);
    return await this.#inner.put(key, data, options);
  }

  async delete(key: string, options?: CallOptions): Promise<void> {
    if (!key.startsWith(this.#own.checkpoints)) throw refused("delete", key);
    await this.#inner.delete(key, options);
  }

  async list(prefix: string, options?: ListOptions): Promise<ListPage> {
    if (!prefix.startsWith(this.#own.prefix)) throw refused("list", prefix);
    return await this.#inner.list(prefix, options);
  }

  /** The host's verdict: a sprite makes no trials of its own. */
  async probe(options?: CallOptions): Promise<StoreCapabilities> {
    await requireConditionalWrites(this.#inner, options);
    return { conditionalWrites: true };
  }

  #checkRead(key: string): void {
    if (this.#contentName(key) === undefined && !key.startsWith(this.#own.prefix)) throw refused("read", key);
  }

  /** The name of a pack or page; undefined for other keys. */
  #contentName(key: string): string | undefined {
    const prefix = [this.#org.packs, this.#org.maps].find((one) => key.startsWith(one));
    const name = prefix === undefined ? "" : key.slice(prefix.length);
    return isHash(name) ? name : undefined;
  }

  #checkHead(key: string, data: Uint8Array, { condition }: PutOptions): void {
    const { owner, epoch, sprite } = this.#options;
    if (condition === undefined || !("ifMatch" in condition)) throw refused("write", key, "a head is written with If-Match");
    const head = decode(() => decodeDocument(key, data, headSchema));
    if (head.owner !== owner || head.epoch !== epoch || head.sprite !== sprite)
      throw refused("write", key, "it names another owner, epoch or sprite");
  }

  #checkStart(key: string, data: Uint8Array): void {
    const start = decode(() => decodeDocument(key, data, startSchema));
    if (start.sprite !== this.#options.sprite) throw refused("write", key, "it is about another sprite");
  }

  #checkDocument(key: string, data: Uint8Array): void {
    const document = decode(() => decodeDocument(key, data, checkpointSchema));
    if (document.sprite !== this.#options.sprite || key !== this.#own.checkpoint(document.id, sha256(data)))
      throw refused("write", key, "it is not the key of this document");
  }
}

const refused = (what: string, key: string, why = "it is not the sprite's"): HobError =>
  new HobError("invalid_request", `a sprite may not ${what} ${JSON.stringify(key.slice(0, 200))}: ${why}`);

/** Of a guest's document: what is wrong is its fault, not the store's. */
function decode<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof HobError ? new HobError("invalid_request", error.message, { cause: error }) : error;
  }
}
