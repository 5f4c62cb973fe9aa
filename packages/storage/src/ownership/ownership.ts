import { HobError } from "@hob/protocol";
import { type CheckpointDocument, encodeDocument, FORMAT_VERSION, type HeadDocument } from "../format/documents.ts";
import { sha256 } from "../format/hash.ts";
import type { SpriteKeys } from "../format/keys.ts";
import { type ReadHead, readCheckpoint } from "../heads.ts";
import { retrying } from "../util/retry.ts";
import { automaticNumberOf, numberOf } from "./checkpoint-number.ts";
import { checkUploadAge, newWriteId, ownershipLost, readHeadAgain, retryHead } from "./head-writes.ts";
import type { HeadChange, NewCheckpoint, OwnershipOptions, PublishOptions } from "./types.ts";

/**
 * The right to write one sprite's storage. Calls are carried out one after the other. Once it is lost, every call throws
 * HobError `ownership_lost`.
 */
export class Ownership {
  readonly owner: string;
  readonly epoch: number;
  readonly sprite: string;
  readonly keys: SpriteKeys;
  readonly #options: OwnershipOptions;
  #present: ReadHead;
  #lost: HobError | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: OwnershipOptions, keys: SpriteKeys, present: ReadHead) {
    this.#options = options;
    this.keys = keys;
    this.#present = present;
    this.owner = present.head.owner;
    this.epoch = present.head.epoch;
    this.sprite = options.sprite;
  }

  /** As last read or written. */
  get head(): HeadDocument {
    return this.#present.head;
  }

  /**
   * Writes the head with a change. When this returns, the change is durable, and everything that it names was before.
   *
   * @throws HobError `ownership_lost`; `conflict` when the upload took longer than MAX_UPLOAD_AGE_MS; what the store throws:
   *   then the change may have been made or not, and `refresh` or the next `publish` finds out
   */
  publish(change: HeadChange, options: PublishOptions = {}): Promise<HeadDocument> {
    return this.#alone(() => this.#publish(() => change, options));
  }

  /**
   * Writes a checkpoint's document and names it in the head; the head's own state is changed too if `change` says so.
   *
   * @throws as `publish`, and `conflict` when the id was used before
   */
  addCheckpoint(checkpoint: NewCheckpoint, change: HeadChange = {}, options: PublishOptions = {}): Promise<CheckpointDocument> {
    return this.#alone(async () => {
      const { head } = this.#present;
      const number = numberOf(checkpoint.id);
      if (head.checkpoints.some(({ id }) => id === checkpoint.id) || (number !== undefined && number <= head.lastCheckpoint))
        throw new HobError("conflict", `cannot add checkpoint ${checkpoint.id}: the sprite has or had one of this id`);
      const document = this.#document(checkpoint);
      const { hash } = await this.#putDocument(document, options);
      await this.#publish(
        (now) => ({
          ...change,
          checkpoints: [...now.checkpoints, { id: document.id, document: hash }],
          lastCheckpoint: Math.max(now.lastCheckpoint, number ?? 0),
          ...withAutomatic(now, document.id, change.lastAutomatic),
        }),
        options,
      );
      return document;
    });
  }

  /** Names other documents for some checkpoints, for `fsck`'s repairs. */
  replaceCheckpoints(documents: readonly CheckpointDocument[], change: HeadChange = {}, options: PublishOptions = {}): Promise<void> {
    return this.#alone(async () => {
      const hashes = new Map<string, string>();
      for (const document of documents) hashes.set(document.id, (await this.#putDocument(document, options)).hash);
      const replace = (now: HeadDocument): HeadChange => ({
        ...change,
        checkpoints: now.checkpoints.map((entry) => ({ id: entry.id, document: hashes.get(entry.id) ?? entry.document })),
      });
      await this.#publish(replace, options);
    });
  }

  /** @throws as `publish`, and `not_found` */
  deleteCheckpoint(id: string, options: PublishOptions = {}): Promise<void> {
    return this.#alone(async () => {
      const entry = this.#present.head.checkpoints.find((one) => one.id === id);
      if (entry === undefined) throw new HobError("not_found", `there is no checkpoint ${id}`);
      const without = (now: HeadDocument): HeadChange => ({
        checkpoints: now.checkpoints.filter((one) => one.id !== id),
        // Its writer may not have known of the field.
        ...withAutomatic(now, id),
      });
      await this.#publish(without, options);
      // From here on it is gone; `gc` removes the document if this does not.
      await this.#options.store.delete(this.keys.checkpoint(id, entry.document)).catch(() => undefined);
    });
  }

  /** @throws HobError `not_found`, `data_damaged` */
  async readCheckpoint(id: string): Promise<CheckpointDocument> {
    return await readCheckpoint(this.#options.store, this.keys, this.head, id);
  }

  /** Reads the head again. @throws HobError `ownership_lost`, and what the store throws */
  refresh(): Promise<HeadDocument> {
    return this.#alone(async () => {
      await this.#reread();
      return this.head;
    });
  }

  /** Deletes everything that belongs to the sprite alone; `gc` takes the rest. Ends the ownership. */
  destroy(): Promise<void> {
    return this.#alone(async () => {
      const { store } = this.#options;
      await this.#reread();
      await store.delete(this.keys.description);
      await store.delete(this.keys.head);
      await store.delete(this.keys.start);
      for (const { id, document } of this.head.checkpoints) await store.delete(this.keys.checkpoint(id, document));
      this.#lost = new HobError("ownership_lost", `sprite ${this.sprite} was deleted`);
    });
  }

  #document(checkpoint: NewCheckpoint): CheckpointDocument {
    const { head } = this.#present;
    return {
      format: "hob-checkpoint",
      version: FORMAT_VERSION,
      sprite: this.sprite,
      parent: head.parent,
      volumeBytes: head.volumeBytes,
      epoch: this.epoch,
      ...checkpoint,
    };
  }

  async #putDocument(document: CheckpointDocument, options: PublishOptions): Promise<{ hash: string }> {
    const bytes = encodeDocument(document);
    const hash = sha256(bytes);
    const call = options.signal === undefined ? {} : { signal: options.signal };
    await this.#options.store.put(this.keys.checkpoint(document.id, hash), bytes, call);
    return { hash };
  }

  async #publish(change: (head: HeadDocument) => HeadChange, options: PublishOptions): Promise<HeadDocument> {
    checkUploadAge(this.sprite, options.startedAt, this.#options.now);
    const writeId = newWriteId();
    return await retrying(retryHead(options.signal), async (attempt) => {
      // A try before may have succeeded without an answer, and an earlier publish too.
      if (attempt > 1 && (await this.#reread()).writeId === writeId) return this.head;
      const { head, etag } = this.#present;
      const writtenAt = (this.#options.now?.() ?? new Date()).toISOString();
      const next = this.#withBases({ ...head, ...change(head), writeId, writtenAt });
      const call = options.signal === undefined ? {} : { signal: options.signal };
      try {
        const written = await this.#options.store.put(this.keys.head, encodeDocument(next), { condition: { ifMatch: etag }, ...call });
        this.#present = { head: next, etag: written.etag };
        return next;
      } catch (error) {
        if (!(error instanceof HobError) || error.code !== "precondition_failed") throw error;
        if ((await this.#reread()).writeId === writeId) return this.head;
        throw new HobError("store_unavailable", `the head of sprite ${this.sprite} changed while it was written`, { cause: error });
      }
    });
  }

  /** Of what the owner's machine reads through, the head names its own root already. */
  #withBases(head: HeadDocument): HeadDocument {
    const { bases } = this.#options;
    if (bases === undefined) return head;
    const { bases: _before, ...rest } = head;
    const named = bases().filter((root) => root !== head.root);
    return named.length === 0 ? rest : { ...rest, bases: named };
  }

  async #reread(): Promise<HeadDocument> {
    const present = await readHeadAgain(this.#options.store, this.keys.head);
    if (present?.head.owner !== this.owner || present.head.epoch !== this.epoch) {
      this.#lost = ownershipLost(this.sprite, present?.head);
      throw this.#lost;
    }
    this.#present = present;
    return present.head;
  }

  #alone<R>(work: () => Promise<R>): Promise<R> {
    const result = this.#queue.then(() => {
      if (this.#lost !== undefined) throw this.#lost;
      return work();
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }
}

/** The largest number of an automatic checkpoint that the head, this id and whoever changes the head know of. */
function withAutomatic(head: HeadDocument, id: string, known = 0): Pick<HeadChange, "lastAutomatic"> {
  const lastAutomatic = Math.max(head.lastAutomatic ?? 0, automaticNumberOf(id) ?? 0, known);
  return lastAutomatic === 0 ? {} : { lastAutomatic };
}
