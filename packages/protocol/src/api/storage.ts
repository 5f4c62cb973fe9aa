import { z } from "zod";
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
  name: z.string(),
  /** checkpoint to fork from; absent: the present state */
  checkpoint: z.string().nullish(),
});
export type ForkRequest = z.infer<typeof forkRequest>;

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
];
