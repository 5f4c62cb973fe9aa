import { z } from "zod";

/**
 * The relay: a sprite's way to the object store. The host dials the pilot, asks it to upgrade the connection, and then the
 * roles are reversed: the pilot sends HTTP/1.1 requests on it, the host answers. So a VM needs no credentials and no
 * network path to the store or to the host, and reaches nothing but what the host allows its sprite.
 *
 * | request | answer |
 * | --- | --- |
 * | GET /objects/KEY, optionally `Range: bytes=A-B` | 200 or 206 with the bytes and `ETag`; 404 |
 * | HEAD /objects/KEY | 200 with `ETag`, `Content-Length`, `Hob-Modified`; 404 |
 * | PUT /objects/KEY, optionally `If-Match` or `If-None-Match: *` | 200 `{"etag"}`; 412 |
 * | DELETE /objects/KEY | 204 |
 * | GET /list?prefix=…&after=…&limit=… | 200 with RelayList |
 *
 * Errors are bodies as everywhere, with the codes of the store. What the sprite may not touch does not exist for it: 404.
 */
export const RELAY = {
  /** value of the Upgrade header, RFC 9110 section 7.8 */
  upgrade: "hob-relay",
  /** connections of one sprite: each carries one request at a time */
  connections: 4,
  objects: "/objects/",
  list: "/list",
  /** names the start of the VM that a connection belongs to; `resumed` brings the same name */
  startHeader: "hob-start",
  /** Unix milliseconds of the last change, by the store's clock */
  modifiedHeader: "hob-modified",
} as const;

export const relayPutAnswer = z.object({ etag: z.string() });

export const relayList = z.object({
  objects: z.array(z.object({ key: z.string(), sizeBytes: z.number().int().nonnegative(), modifiedMs: z.number() })),
  next: z.string().optional(),
});
export type RelayList = z.infer<typeof relayList>;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/**
 * What the host tells a pilot of its sprite's place in the store. Sent with `resumed`, and in the boot configuration, so
 * that a volume that reads through to the store can be attached before anything else.
 */
export const storageAssignment = z.object({
  organization: z.string(),
  spriteId: z.string(),
  /** who may write, see docs/formats/storage.md */
  owner: z.string(),
  epoch: z.number().int().positive(),
  /**
   * Where a volume that is new on this machine begins: the map that the store has of the sprite, or of the checkpoint that
   * it is a fork of. Absent: the volume that is there is the sprite's own.
   */
  base: z.object({ root: sha256.nullable(), volumeBytes: z.number().int().positive() }).optional(),
});
export type StorageAssignment = z.infer<typeof storageAssignment>;

/**
 * Makes a VM a reader: it is no sprite's own, owns nothing in the store and writes nothing there. It shows what the store has of a
 * sprite that sleeps: its checkpoints, and the state that `root` names.
 */
export const storedHistory = z.object({ organization: z.string(), spriteId: z.string(), root: sha256 });
export type StoredHistory = z.infer<typeof storedHistory>;
