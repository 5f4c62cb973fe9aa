import { z } from "zod";
import type { RouteDescription } from "./route.ts";

/** Id under which the live state is listed. It cannot be deleted or restored. */
export const CURRENT = "Current";

export const CHECKPOINT_LIMITS = { commentCharacters: 4096, checkpoints: 1000 } as const;

/** `v1`, `v2`, … for those that were asked for; `auto-1`, … for automatic ones. No number is used twice. */
export const checkpointId = z.string().regex(/^(v|auto-)[1-9][0-9]{0,8}$/);

export const checkpointRequest = z.object({ comment: z.string().max(CHECKPOINT_LIMITS.commentCharacters).optional() });
export type CheckpointRequest = z.infer<typeof checkpointRequest>;

export const checkpoint = z.object({
  id: z.string(),
  /** RFC 3339 */
  create_time: z.string(),
  comment: z.string(),
  /** checkpoint that the state derives from, which may be deleted; empty for the first */
  source_id: z.string(),
  /** empty, or `mount_failed` when it could not be mounted below /.sprite/checkpoints */
  health: z.enum(["", "mount_failed"]),
  /** all that it derives from, nearest first */
  history: z.array(z.string()),
  is_auto: z.boolean(),
  /** why an automatic one was taken: `restore`, `sleep`, `hourly` (extension) */
  reason: z.string().optional(),
  /** whether the object store has it; absent for the live state, and without a store (extension) */
  durable: z.boolean().optional(),
});
export type Checkpoint = z.infer<typeof checkpoint>;

export const checkpointQuery = z.object({
  /** `true`: automatic ones too */
  includeAuto: z.enum(["true", "false", "1", "0"]).optional(),
  /** only this checkpoint and those that derive from it */
  history: z.string().max(64).optional(),
});

/** One line of the answer to create and restore. The last is `complete` or `error`. More fields may come. */
export const checkpointEvent = z.object({
  type: z.enum(["info", "complete", "error"]),
  /** for people; `  ID: v8` in it is how the official clients learn the id */
  data: z.string().optional(),
  error: z.string().optional(),
  /** RFC 3339 */
  time: z.string(),
  /** on `error`: code of the catalogue (extension) */
  code: z.string().optional(),
  /** on `error`: what to do about it (extension) */
  hint: z.string().optional(),
  /** on `complete`: the checkpoint taken, or restored (extension) */
  id: z.string().optional(),
  /** on `complete` of create: how long the sprite's files stood still, milliseconds (extension) */
  pauseMs: z.number().optional(),
  /** on `complete` of restore: the automatic checkpoint of the state before (extension) */
  undoId: z.string().optional(),
  /** on `complete` of restore: how long what took, milliseconds (extension) */
  steps: z.array(z.object({ name: z.string(), ms: z.number() })).optional(),
});
export type CheckpointEvent = z.infer<typeof checkpointEvent>;

const BASE = "/v1/sprites/{name}";
const progress = { summary: "progress, one JSON object per line", body: { ndjson: checkpointEvent } };
const unknown = { summary: "no such checkpoint" };

export const checkpointRoutes: readonly RouteDescription[] = [
  {
    method: "POST",
    path: `${BASE}/checkpoint`,
    family: "Checkpoints",
    summary: "Takes a checkpoint of the sprite's files",
    body: { json: checkpointRequest },
    answers: { 200: progress, 400: { summary: "the body is not valid" } },
  },
  {
    method: "GET",
    path: `${BASE}/checkpoints`,
    family: "Checkpoints",
    summary: "Lists checkpoints, newest first, after the live state",
    query: checkpointQuery,
    answers: { 200: { summary: "the list", body: { json: z.array(checkpoint) } }, 400: { summary: "a parameter is not valid" } },
  },
  {
    method: "GET",
    path: `${BASE}/checkpoints/{id}`,
    family: "Checkpoints",
    summary: "Shows one checkpoint",
    answers: { 200: { summary: "the checkpoint", body: { json: checkpoint } }, 404: unknown },
  },
  {
    method: "DELETE",
    path: `${BASE}/checkpoints/{id}`,
    family: "Checkpoints",
    summary: "Deletes one checkpoint",
    answers: { 204: { summary: "deleted" }, 404: unknown, 409: { summary: "the live state cannot be deleted" } },
  },
  {
    method: "POST",
    path: `${BASE}/checkpoints/{id}/restore`,
    family: "Checkpoints",
    summary: "Puts the sprite's files back to a checkpoint",
    answers: { 200: progress, 404: unknown, 409: { summary: "the live state cannot be restored" } },
  },
  {
    method: "POST",
    path: `${BASE}/restore/undo`,
    family: "Checkpoints",
    summary: "Puts the sprite's files back to the state before the last restore",
    extension: true,
    answers: { 200: progress, 409: { summary: "there is nothing to undo" } },
  },
];
