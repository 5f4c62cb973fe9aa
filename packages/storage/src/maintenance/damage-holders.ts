import { HobError } from "@hob/protocol";
import type { HeadDocument } from "../format/documents.ts";
import { OrgKeys } from "../format/keys.ts";
import { listSprites, readCheckpoint, readHead } from "../heads.ts";
import type { MapRoot } from "../map/chunk-ref.ts";
import { PageStore } from "../map/page-store.ts";
import { walkPages } from "../map/traverse.ts";
import type { ObjectStore } from "../store/object-store.ts";

/** A page that cannot be read, and what needs it. */
export interface DamageHolder {
  /** of the page */
  key: string;
  /** id */
  sprite: string;
  /** null: the newest state, or a base */
  checkpoint: string | null;
  /** the sprite's machine reads through it, and it is no state of the sprite */
  isBase: boolean;
}

type Holder = Omit<DamageHolder, "key">;

export interface DamageHoldersOptions {
  store: ObjectStore;
  org: string;
  /** keys of pages */
  damaged: ReadonlySet<string>;
  signal?: AbortSignal | undefined;
}

/** Finds the states and bases of an organization that these pages belong to, as the heads are now. */
export async function findDamageHolders({ store, org, damaged, signal }: DamageHoldersOptions): Promise<DamageHolder[]> {
  const keys = new OrgKeys(org);
  const search = new Search(new PageStore({ store, org }), keys, damaged);
  const found: DamageHolder[] = [];
  for (const { id, hasHead } of await listSprites(store, org)) {
    const head = hasHead ? (await readHead(store, keys.sprite(id).head))?.head : undefined;
    if (head === undefined) continue;
    for await (const [holder, root] of mapsOf(store, keys, head)) {
      signal?.throwIfAborted();
      for (const key of await search.damagedIn(root)) found.push({ key, ...holder });
    }
  }
  return found;
}

async function* mapsOf(store: ObjectStore, keys: OrgKeys, head: HeadDocument): AsyncGenerator<[Holder, MapRoot]> {
  const { sprite } = head;
  yield [{ sprite, checkpoint: null, isBase: false }, head.root];
  for (const base of head.bases ?? []) yield [{ sprite, checkpoint: null, isBase: true }, base];
  for (const { id } of head.checkpoints) {
    const document = await readCheckpoint(store, keys.sprite(sprite), head, id).catch((error: unknown) => {
      // Deleted meanwhile, or damaged: then it is not this that says so.
      if (error instanceof HobError && error.code === "data_damaged") return undefined;
      throw error;
    });
    if (document !== undefined) yield [{ sprite, checkpoint: id, isBase: false }, document.root];
  }
}

/** Walks maps that share most of their pages. */
class Search {
  readonly #pages: PageStore;
  readonly #keys: OrgKeys;
  readonly #damaged: ReadonlySet<string>;
  /** names of pages with nothing damaged below them */
  readonly #whole = new Set<string>();

  constructor(pages: PageStore, keys: OrgKeys, damaged: ReadonlySet<string>) {
    this.#pages = pages;
    this.#keys = keys;
    this.#damaged = damaged;
  }

  async damagedIn(root: MapRoot): Promise<string[]> {
    const found: string[] = [];
    const inner: string[] = [];
    await walkPages(this.#pages, root, {
      enter: (name, level) => {
        const key = this.#keys.page(name);
        if (this.#damaged.has(key)) found.push(key);
        else if (level > 0 && !this.#whole.has(name)) {
          inner.push(name);
          return true;
        }
        return false;
      },
      // Damaged since, or brought back: what was found at first stands.
      broken: (error) => {
        if (!(error instanceof HobError) || error.code !== "data_damaged") throw error;
      },
    });
    if (found.length === 0) for (const name of inner) this.#whole.add(name);
    return found;
  }
}
