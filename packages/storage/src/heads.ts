import { HobError } from "@hob/protocol";
import { damaged, damagedWhenTooLarge } from "./format/damage.ts";
import {
  type CheckpointDocument,
  checkpointSchema,
  decodeDocument,
  encodeDocument,
  type HeadDocument,
  headSchema,
  type SpriteDocument,
  spriteSchema,
} from "./format/documents.ts";
import { sha256 } from "./format/hash.ts";
import { OrgKeys, type SpriteKeys } from "./format/keys.ts";
import { MAX_DOCUMENT_BYTES } from "./format/limits.ts";
import { listAll } from "./store/list-all.ts";
import type { ObjectStore } from "./store/object-store.ts";

/** Reading what the documents of sprites say. Needs no ownership. */

export interface ReadHead {
  head: HeadDocument;
  etag: string;
}

/** The head at `key`; undefined when there is none. @throws HobError `data_damaged`, `store_unsupported` */
export async function readHead(store: ObjectStore, key: string): Promise<ReadHead | undefined> {
  const object = await store.get(key, { maxBytes: MAX_DOCUMENT_BYTES }).catch(damagedWhenTooLarge(key));
  return object === undefined ? undefined : { head: decodeDocument(key, object.data, headSchema), etag: object.etag };
}

/** The checkpoint that a head names. @throws HobError `not_found`, `data_damaged`, `store_unsupported` */
export async function readCheckpoint(store: ObjectStore, keys: SpriteKeys, head: HeadDocument, id: string): Promise<CheckpointDocument> {
  const entry = head.checkpoints.find((one) => one.id === id);
  if (entry === undefined) throw new HobError("not_found", `sprite ${head.sprite} has no checkpoint ${id}`);
  const key = keys.checkpoint(id, entry.document);
  const object = await store.get(key, { maxBytes: MAX_DOCUMENT_BYTES }).catch(damagedWhenTooLarge(key));
  if (object === undefined) throw damaged(key, "is missing");
  if (sha256(object.data) !== entry.document) throw damaged(key, "does not match the checksum in the head");
  const document = decodeDocument(key, object.data, checkpointSchema);
  if (document.id !== id) throw damaged(key, `describes checkpoint ${document.id}`);
  return document;
}

export async function readSprite(store: ObjectStore, org: string, sprite: string): Promise<SpriteDocument | undefined> {
  const key = new OrgKeys(org).sprite(sprite).description;
  const object = await store.get(key, { maxBytes: MAX_DOCUMENT_BYTES }).catch(damagedWhenTooLarge(key));
  return object === undefined ? undefined : decodeDocument(key, object.data, spriteSchema);
}

export async function writeSprite(store: ObjectStore, document: SpriteDocument): Promise<void> {
  await store.put(new OrgKeys(document.organization).sprite(document.id).description, encodeDocument(document));
}

/** What a store holds of one sprite. */
export interface StoredSprite {
  id: string;
  hasHead: boolean;
  hasDescription: boolean;
  /** keys and times of the checkpoint documents, named by the head or not */
  documents: { key: string; modifiedAt: Date }[];
}

/** The sprites of an organization, by id. Keys that the format does not know are left out. */
export async function listSprites(store: ObjectStore, org: string): Promise<StoredSprite[]> {
  const prefix = new OrgKeys(org).sprites;
  const sprites = new Map<string, StoredSprite>();
  for await (const { key, modifiedAt } of listAll(store, prefix)) {
    const [id = "", file = "", ...rest] = key.slice(prefix.length).split("/");
    const sprite = sprites.get(id) ?? { id, hasHead: false, hasDescription: false, documents: [] };
    if (file === "head.json" && rest.length === 0) sprite.hasHead = true;
    else if (file === "sprite.json" && rest.length === 0) sprite.hasDescription = true;
    else if (file === "checkpoints" && rest.length === 1) sprite.documents.push({ key, modifiedAt });
    else continue;
    sprites.set(id, sprite);
  }
  return [...sprites.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}
