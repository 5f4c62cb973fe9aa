import { type RetryOptions, retrying } from "../util/retry.ts";
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

export type StoreRetries = Omit<RetryOptions, "signal">;

/** Some 30 s of trying in all, when every try fails at once. */
const DEFAULT_RETRIES: StoreRetries = { attempts: 8, firstPauseMs: 200, longestPauseMs: 10_000 };

/**
 * Tries again what failed for the moment (`retryable` errors). Conditional writes are tried once: whether one that got no
 * answer has succeeded can only be told by who made it.
 */
export class RetryingStore implements ObjectStore {
  readonly description: string;
  readonly #inner: ObjectStore;
  readonly #retries: StoreRetries;

  constructor(inner: ObjectStore, retries: Partial<StoreRetries> = {}) {
    this.#inner = inner;
    this.description = inner.description;
    this.#retries = { ...DEFAULT_RETRIES, ...retries };
  }

  get(key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    return this.#retry(options, () => this.#inner.get(key, options));
  }

  head(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#retry(options, () => this.#inner.head(key, options));
  }

  put(key: string, data: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    if (options.condition !== undefined) return this.#inner.put(key, data, options);
    return this.#retry(options, () => this.#inner.put(key, data, options));
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#retry(options, () => this.#inner.delete(key, options));
  }

  list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    return this.#retry(options, () => this.#inner.list(prefix, options));
  }

  probe(options: ProbeOptions = {}): Promise<StoreCapabilities> {
    return this.#retry(options, () => this.#inner.probe(options));
  }

  #retry<R>({ signal }: CallOptions, work: () => Promise<R>): Promise<R> {
    return retrying({ ...this.#retries, signal }, work);
  }
}
