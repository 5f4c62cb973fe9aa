/**
 * What Hob needs of an object store. All backends pass one contract suite (test/support/store-contract.ts).
 *
 * - Objects are whole: a reader sees one `put` entirely or not at all, and `put` returns when the object would survive the
 *   loss of power (directory) or the store has answered (S3).
 * - Reads are consistent: what `put` or `delete` has returned for, `get`, `head` and `list` see.
 * - Keys are relative paths, `isObjectKey`. Everything else is refused before anything is sent.
 * - Every method throws HobError only: `store_unavailable` (try again later), `store_failed` (refused: permission,
 *   configuration), `invalid_request` (key or range), or the signal's reason when it was aborted.
 */
export interface ObjectStore {
  /** for messages and logs; holds no secret */
  readonly description: string;

  /**
   * The object, or a part of it; undefined when there is none. A range that passes the end is cut, one that starts at or
   * beyond the end gives no bytes.
   *
   * @throws HobError `payload_too_large` when it exceeds `maxBytes`
   */
  get(key: string, options?: GetOptions): Promise<StoredObject | undefined>;

  head(key: string, options?: CallOptions): Promise<ObjectInfo | undefined>;

  /**
   * Writes an object of at most MAX_OBJECT_BYTES.
   *
   * @throws HobError `precondition_failed` when the condition does not hold. After a connection was lost, a write that
   *   succeeded may be reported so: a caller tells by reading what is there.
   */
  put(key: string, data: Uint8Array, options?: PutOptions): Promise<PutResult>;

  /** Removes an object. One that is not there is no error. */
  delete(key: string, options?: CallOptions): Promise<void>;

  /** Objects whose key starts with `prefix`, by key in the order of their bytes. */
  list(prefix: string, options?: ListOptions): Promise<ListPage>;

  /** Finds out by trying whether conditional writes are honoured. Writes and removes objects below `PREFIXprobe/`. */
  probe(options?: ProbeOptions): Promise<StoreCapabilities>;
}

export interface CallOptions {
  signal?: AbortSignal;
}

export interface ProbeOptions extends CallOptions {
  /** below which this client may write: empty, or a key and `/` */
  prefix?: string;
}

export interface GetOptions extends CallOptions {
  range?: ByteRange;
  /** default MAX_OBJECT_BYTES */
  maxBytes?: number;
}

export interface ByteRange {
  offset: number;
  /** at least 1 */
  length: number;
}

/** `ifNoneMatch: "*"`: there must be no object. `ifMatch`: the object must be the one that this etag came with. */
export type PutCondition = { readonly ifNoneMatch: "*" } | { readonly ifMatch: string };

export interface PutOptions extends CallOptions {
  condition?: PutCondition;
}

export interface PutResult {
  etag: string;
}

export interface StoredObject {
  data: Buffer;
  /** opaque; equal for equal content of small objects at the least */
  etag: string;
}

export interface ObjectInfo {
  key: string;
  sizeBytes: number;
  etag: string;
  /** by the store's clock */
  modifiedAt: Date;
}

export interface ListOptions extends CallOptions {
  /** continues after this `next` of the page before */
  after?: string;
  /** at most this many, 1 to 1000; default 1000 */
  limit?: number;
}

export interface ListedObject {
  key: string;
  sizeBytes: number;
  modifiedAt: Date;
}

export interface ListPage {
  objects: ListedObject[];
  /** present when there may be more */
  next?: string;
}

export interface StoreCapabilities {
  /** both `ifNoneMatch` and `ifMatch` are honoured */
  conditionalWrites: boolean;
  /** what was found missing */
  reason?: string;
}
