import { z } from "zod";
import { spriteName } from "../sprites.ts";
import type { RouteDescription } from "./route.ts";

/** How far the object store is behind the sprite. */
export const storageStatus = z.object({
  /** false: this sprite has no object store */
  enabled: z.boolean(),
  /** RFC 3339; the state of this time is in the store, whole. Null: none yet, since the pilot started */
  durable_at: z.string().nullable(),
  /** how long the oldest write that the store does not have has been waiting; 0: there is none */
  durable_lag_seconds: z.number().nonnegative(),
  uploading: z.boolean(),
  /** checkpoints that are taken and not durable */
  pending_checkpoints: z.array(z.string()),
  /** what had to come from the object store because it was never on this machine, since the pilot started */
  fetched_bytes: z.number().int().nonnegative(),
  fetched_requests: z.number().int().nonnegative(),
  /** why the last attempt failed */
  error: z.string().nullable(),
});
export type StorageStatus = z.infer<typeof storageStatus>;

export const syncAnswer = storageStatus;

/** `POST /v1/sprites/{name}/fork` */
export const forkRequest = z.object({
  /** name of the new sprite */
  name: spriteName,
  /** checkpoint to fork from; absent: the present state */
  checkpoint: z.string().nullish(),
});
export type ForkRequest = z.infer<typeof forkRequest>;

/** `POST /v1/storage/gc` */
export const gcRequest = z.object({
  /** objects younger than this are kept: uploads under way need them; seconds, default a day. Less than 7200 is refused while a sprite runs */
  grace_seconds: z.number().int().nonnegative().nullish(),
  /** only count */
  dry_run: z.boolean().nullish(),
});

export type GcRequest = z.input<typeof gcRequest>;

/** What reading every state has shown. */
export const fsckReport = z.object({
  sprites: z.number().int(),
  /** checkpoints, and the newest state of each sprite */
  states: z.number().int(),
  pages: z.number().int(),
  packs: z.number().int(),
  chunks: z.number().int(),
  bytesRead: z.number().int(),
  /** what makes a state unreadable, in whole or in part */
  damage: z.array(
    z.object({
      /** id of the sprite */
      sprite: z.string(),
      /** null: the newest state */
      checkpoint: z.string().nullable(),
      problem: z.string(),
      /** blocks that cannot be read; empty when the whole state is unknown */
      blocks: z.array(z.object({ first: z.number().int(), count: z.number().int() })),
    }),
  ),
  /** objects that are wrong in a part that no state needs */
  warnings: z.array(z.object({ key: z.string(), problem: z.string() })),
});
export type FsckReport = z.infer<typeof fsckReport>;

export const gcReport = z.object({
  sprites: z.number().int(),
  reachablePacks: z.number().int(),
  reachablePages: z.number().int(),
  deletedPacks: z.number().int(),
  deletedPages: z.number().int(),
  deletedDocuments: z.number().int(),
  deletedBytes: z.number().int(),
  /** unreachable, but younger than the grace period */
  keptYoung: z.number().int(),
  /** keys of pages that could not be read: with one, no pack and no page is removed */
  damaged: z.array(z.string()),
  /** what needs these pages */
  holders: z.array(
    z.object({
      /** key of the page */
      key: z.string(),
      /** id of the sprite */
      sprite: z.string(),
      /** null: this host does not have it in its registry */
      name: z.string().nullable(),
      /** null: the newest state, or a base */
      checkpoint: z.string().nullable(),
      /** the sprite's machine reads through it, and it is no state of the sprite */
      isBase: z.boolean(),
    }),
  ),
});
export type GcReport = z.infer<typeof gcReport>;

const family = "Durability and history";

export const storageRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: "/v1/sprites/{name}/storage",
    family,
    summary: "How far the object store is behind the sprite",
    extension: true,
    answers: { 200: { summary: "the status", body: { json: storageStatus } } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/sync",
    family,
    summary: "Waits until everything that was written before is in the object store",
    extension: true,
    answers: {
      200: { summary: "it is there", body: { json: syncAnswer } },
      409: { summary: "there is no object store, or another host owns the sprite" },
      503: { summary: "the object store does not answer; it is tried again all the same" },
    },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/fork",
    family,
    summary: "Makes a new sprite from the present state or a checkpoint of this one, whatever its size",
    extension: true,
    body: { json: forkRequest },
    answers: {
      201: { summary: "the new sprite" },
      400: { summary: "the name is malformed or taken" },
      404: { summary: "no such checkpoint" },
    },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/export",
    family,
    summary: "The sprite with all its checkpoints as one file; docs/formats/storage.md, Export",
    extension: true,
    answers: { 200: { summary: "the file", body: { bytes: "application/vnd.hob.export" } } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/fsck",
    family,
    summary:
      "Reads every state of the sprite in the object store and names what is damaged; repairs it when asked to, as far as the sprite's machine has what was lost",
    extension: true,
    query: z.object({ repair: z.enum(["true", "false"]).optional() }),
    answers: { 200: { summary: "the report, of what is left after a repair", body: { json: fsckReport } } },
  },
  {
    method: "POST",
    path: "/v1/storage/import",
    family,
    summary: "Makes a new sprite from an exported file, which is verified before the sprite exists",
    extension: true,
    query: z.object({ name: z.string(), storage_gb: z.string().optional() }),
    body: { bytes: "application/vnd.hob.export" },
    answers: { 201: { summary: "the new sprite" }, 400: { summary: "the name is malformed or taken, or the file is damaged" } },
  },
  {
    method: "POST",
    path: "/v1/storage/fsck",
    family,
    summary: "Reads every state of every sprite in the object store and names what is damaged",
    extension: true,
    answers: { 200: { summary: "the report", body: { json: fsckReport } } },
  },
  {
    method: "POST",
    path: "/v1/storage/gc",
    family,
    summary: "Removes objects of the store that no sprite and no checkpoint reaches",
    extension: true,
    body: { json: gcRequest },
    answers: {
      200: { summary: "what was removed, or would be", body: { json: gcReport } },
      409: { summary: "the grace period is shorter than an upload may take, and a sprite runs or is being made" },
    },
  },
];
