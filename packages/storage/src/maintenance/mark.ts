import { HobError } from "@hob/protocol";
import type { CheckpointDocument, HeadDocument } from "../format/documents.ts";
import { OrgKeys, type SpriteKeys } from "../format/keys.ts";
import { listSprites, readCheckpoint, readHead } from "../heads.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import { walkPages } from "../map/traverse.ts";
import type { ObjectStore } from "../store/object-store.ts";

/** Collects what the heads of an organization reach. */
export class Marker {
  /** names */
  readonly packs = new Set<string>();
  readonly pages = new Set<string>();
  /** keys of checkpoint documents and of records of starts */
  readonly documents = new Set<string>();
  /** keys of pages that could not be read */
  readonly damaged = new Set<string>();
  sprites = 0;
  readonly #store: ObjectStore;
  readonly #keys: OrgKeys;
  readonly #pages: PageStore;
  readonly #signal: AbortSignal | undefined;

  constructor(store: ObjectStore, org: string, signal?: AbortSignal) {
    this.#store = store;
    this.#keys = new OrgKeys(org);
    this.#pages = new PageStore({ store, org, cachedPages: 64 });
    this.#signal = signal;
  }

  /** Adds what is reachable now. @throws HobError when a head or document cannot be read */
  async pass(): Promise<void> {
    this.sprites = 0;
    for (const { id, hasHead } of await listSprites(this.#store, this.#keys.org)) {
      this.#signal?.throwIfAborted();
      if (!hasHead) continue;
      const keys = this.#keys.sprite(id);
      const present = await readHead(this.#store, keys.head);
      // Deleted since it was listed.
      if (present === undefined) continue;
      this.sprites++;
      await this.#markHead(keys, present.head);
    }
  }

  async #markHead(keys: SpriteKeys, head: HeadDocument): Promise<void> {
    await this.#markRoot(head.root);
    for (const base of head.bases ?? []) await this.#markRoot(base);
    this.documents.add(keys.start);
    for (const { id, document } of head.checkpoints) {
      const key = keys.checkpoint(id, document);
      if (this.documents.has(key)) continue;
      const checkpoint = await this.#checkpoint(keys, head, id);
      this.documents.add(key);
      if (checkpoint !== undefined) await this.#markRoot(checkpoint.root);
    }
  }

  /** undefined when the checkpoint was deleted since the head was read. */
  async #checkpoint(keys: SpriteKeys, head: HeadDocument, id: string): Promise<CheckpointDocument | undefined> {
    try {
      return await readCheckpoint(this.#store, keys, head, id);
    } catch (error) {
      const now = await readHead(this.#store, keys.head);
      if (now?.head.checkpoints.some((entry) => entry.id === id)) throw error;
      return undefined;
    }
  }

  async #markRoot(root: MapRoot): Promise<void> {
    this.#signal?.throwIfAborted();
    await walkPages(this.#pages, root, {
      enter: (name) => {
        if (this.pages.has(name)) return false;
        this.pages.add(name);
        return true;
      },
      leaf: (page) => {
        for (const { pack } of page.entries.values()) this.packs.add(pack);
      },
      broken: (error, name) => {
        if (!(error instanceof HobError) || error.code !== "data_damaged") throw error;
        this.damaged.add(this.#keys.page(name));
      },
    });
  }
}
