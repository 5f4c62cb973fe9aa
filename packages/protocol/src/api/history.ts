import { z } from "zod";
import { fileListAnswer } from "./files.ts";
import type { RouteDescription } from "./route.ts";

export const HISTORY_LIMITS = { pathCharacters: 4096, textBytes: 1024 * 1024 } as const;

const path = z.string().min(1).max(HISTORY_LIMITS.pathCharacters);
const flag = z.enum(["true", "false", "1", "0"]).optional();

/** `GET /v1/sprites/{name}/checkpoints/{id}/files` */
export const treeListQuery = z.object({
  /** absolute; links and `..` lead nowhere out of the checkpoint */
  path: path.default("/"),
  recursive: flag,
});

/** `GET /v1/sprites/{name}/checkpoints/{id}/content` */
export const treeContentQuery = z.object({ path });

/** `GET /v1/sprites/{name}/checkpoints/diff` */
export const treeDiffQuery = z.object({
  from: z.string().min(1).max(64),
  /** a checkpoint; absent: the live state */
  to: z.string().min(1).max(64).default("Current"),
  /** only this and what is below */
  path: path.default("/"),
  /** unified diffs of text files too */
  text: flag,
  /** a line that says how far it is, each second */
  progress: flag,
});

export const treeEntryState = z.object({
  kind: z.enum(["file", "directory", "symlink", "fifo", "socket", "character", "block"]),
  size: z.number().int(),
  /** four octal digits */
  mode: z.string(),
  uid: z.number().int(),
  gid: z.number().int(),
  /** RFC 3339 */
  mtime: z.string(),
});

/** Values are base64, as they are seen inside, of which at most the first 8 KiB; null: there is none. */
export const treeAttributeDifference = z.object({ name: z.string(), before: z.string().nullable(), after: z.string().nullable() });

/** One line of the answer. The last is `complete` or `error`. */
export const treeDiffLine = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("entry"),
    path: z.string(),
    /** `type`: it is of another kind now */
    change: z.enum(["added", "removed", "changed", "type"]),
    before: treeEntryState.nullable(),
    after: treeEntryState.nullable(),
    /** extended ones that differ (capabilities and access lists among them), of what is on both sides */
    attributes: z.array(treeAttributeDifference).optional(),
    /** unified diff of a text file of at most 1 MiB; `binary` instead for others */
    text: z.string().optional(),
    binary: z.literal(true).optional(),
  }),
  /** only where it was asked for: paths looked at, and bytes read of large files */
  z.object({ type: z.literal("progress"), paths: z.number().int(), bytes: z.number().int() }),
  z.object({ type: z.literal("complete"), count: z.number().int() }),
  z.object({ type: z.literal("error"), error: z.string(), code: z.string(), hint: z.string().optional() }),
]);
export type TreeDiffLine = z.infer<typeof treeDiffLine>;
export type TreeDifference = Extract<TreeDiffLine, { type: "entry" }>;

/** `POST /v1/sprites/{name}/checkpoints/{id}/restore-path` */
export const restorePathRequest = z.object({ path });

export const restorePathAnswer = z.object({
  id: z.string(),
  path: z.string(),
  /** files, folders and links that were put there */
  count: z.number().int(),
  bytes: z.number().int(),
  /** whether something was there before */
  replaced: z.boolean(),
  /** devices, which nobody can make inside: the first 1,000 */
  leftOut: z.array(z.string()),
});
export type RestorePathAnswer = z.infer<typeof restorePathAnswer>;

const family = "Durability and history";

export const historyRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/files",
    family,
    summary: "Lists a folder of a checkpoint",
    extension: true,
    query: treeListQuery,
    answers: { 200: { summary: "what is in it", body: { json: fileListAnswer } }, 404: { summary: "no such checkpoint or path" } },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/content",
    family,
    summary: "Reads a file of a checkpoint",
    extension: true,
    query: treeContentQuery,
    answers: {
      200: { summary: "its bytes", body: { bytes: "application/octet-stream" } },
      400: { summary: "it is no regular file" },
      404: { summary: "no such checkpoint or path" },
    },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/diff",
    family,
    summary: "What differs between two checkpoints, or between one and the live state",
    extension: true,
    query: treeDiffQuery,
    answers: { 200: { summary: "one line for each path", body: { ndjson: treeDiffLine } }, 404: { summary: "no such checkpoint" } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/checkpoints/{id}/restore-path",
    family,
    summary: "Puts one path back to what it was in a checkpoint; everything else stays, and so do sessions",
    extension: true,
    body: { json: restorePathRequest },
    answers: {
      200: { summary: "it is as it was", body: { json: restorePathAnswer } },
      400: { summary: "the path cannot be restored by itself" },
      404: { summary: "no such checkpoint, or the path is not in it" },
      409: { summary: "the way to the path leads elsewhere than it did" },
    },
  },
];
