import type * as store from "../../src/store/object-store.ts";

/** A store whose reads are answered when the test says so. */
export class HeldStore implements store.ObjectStore {
  readonly description = "held";
  /** reads that wait for an answer, oldest first */
  readonly held: { key: string; answer: () => void }[] = [];
  calls = 0;
  #isOpen = false;
  readonly #inner: store.ObjectStore;

  constructor(inner: store.ObjectStore) {
    this.#inner = inner;
  }

  /** Answers one of those that wait, whichever this number means. */
  answer(number: number): void {
    if (this.held.length > 0) this.held.splice(number % this.held.length, 1)[0]?.answer();
  }

  answerAll(): void {
    for (const { answer } of this.held.splice(0)) answer();
  }

  /** From now on reads are answered at once. */
  open(): void {
    this.#isOpen = true;
    this.answerAll();
  }

  async get(key: string, options?: store.GetOptions): Promise<store.StoredObject | undefined> {
    this.calls++;
    if (!this.#isOpen) await new Promise<void>((answer) => this.held.push({ key, answer }));
    return await this.#inner.get(key, options);
  }

  head(key: string, options?: store.CallOptions): Promise<store.ObjectInfo | undefined> {
    return this.#inner.head(key, options);
  }

  put(key: string, data: Uint8Array, options?: store.PutOptions): Promise<store.PutResult> {
    return this.#inner.put(key, data, options);
  }

  delete(key: string, options?: store.CallOptions): Promise<void> {
    return this.#inner.delete(key, options);
  }

  list(prefix: string, options?: store.ListOptions): Promise<store.ListPage> {
    return this.#inner.list(prefix, options);
  }

  probe(options?: store.ProbeOptions): Promise<store.StoreCapabilities> {
    return this.#inner.probe(options);
  }
}
