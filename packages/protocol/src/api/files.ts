import { z } from "zod";
import type { RouteDescription } from "./route.ts";

/** Bytes of one `fs/write` unless `large=true` is given. */
export const FILE_WRITE_BYTES_MAX = 16 * 1024 * 1024;
/** Entries that an answer names of what an operation changed; its count is of all. */
export const FILES_LISTED_MAX = 1_000;

/** Codes that the SDKs know; any other would be `UNKNOWN` for them. */
export const FILE_ERROR_CODES = ["ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENOTEMPTY", "EINVAL", "EIO"] as const;
export type FileErrorCode = (typeof FILE_ERROR_CODES)[number];

export const fileErrorBody = z.object({
  /** for people, such as `ENOENT: no such file or directory, open '/x'` */
  error: z.string(),
  code: z.enum(FILE_ERROR_CODES),
  path: z.string(),
  /** the kernel's own name of the error, errno(3), where `code` is a coarser one */
  errno: z.string().optional(),
  /** what to do, where that is known */
  hint: z.string().optional(),
});
export type FileErrorBody = z.infer<typeof fileErrorBody>;

/** Both in queries, as text, and in JSON. */
const flag = z
  .union([z.boolean(), z.enum(["true", "false", "1", "0", ""])], "true or false expected")
  .nullish()
  .transform((value) => value === true || value === "true" || value === "1");

const word = z.string().refine((text) => !text.includes("\0"), "a NUL character is not possible");
const path = word.min(1, "a path expected");

/**
 * Permissions. Text is octal digits (`644`, `0644`, `0o644`); a number is their value (420 is 0644), but one that no
 * mode has, such as 755 or 4755, is read as its digits.
 */
export function parseMode(value: string | number): number | undefined {
  if (typeof value === "number") {
    if (!Number.isInteger(value) || value < 0) return undefined;
    const digits = /^[0-7]+$/.test(String(value)) && ((value > 0o777 && value < 1000) || value > 0o7777);
    return digits ? parseMode(String(value)) : value <= 0o7777 ? value : undefined;
  }
  const octal = /^(?:0o)?([0-7]{1,5})$/.exec(value)?.[1];
  const mode = octal === undefined ? Number.NaN : Number.parseInt(octal, 8);
  return mode <= 0o7777 ? mode : undefined;
}

const mode = z.union([z.string(), z.number()]).transform((value, context) => {
  const parsed = parseMode(value);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: "octal permissions such as 0644 expected" });
  return z.NEVER;
});

/** A number is an id; text is a name of the sprite's own /etc/passwd or /etc/group, or an id. */
const owner = z.union([z.number().int().min(0).max(4_294_967_294), word.min(1)]).nullish();

const common = { workingDir: word.nullish(), asRoot: flag };

export const fileReadQuery = z.object({ path, ...common });
export const fileWriteQuery = z.object({
  path,
  ...common,
  mode: mode.nullish(),
  mkdirParents: flag.describe("make missing directories above"),
  mkdir: flag.describe("the same as mkdirParents"),
  large: flag.describe("more than 16 MiB; an extension"),
});
export const fileListQuery = z.object({
  path: word.nullish(),
  ...common,
  recursive: flag,
  pattern: word.nullish().describe("glob; one without a slash is compared with the last part of a path"),
  stat: flag.describe("what `path` itself is, also if it is a directory; an extension"),
});
export const fileDeleteRequest = z.object({ path, ...common, recursive: flag });
export const fileRenameRequest = z.object({ source: path, dest: path, ...common });
export const fileCopyRequest = z.object({ source: path, dest: path, ...common, recursive: flag, preserveAttrs: flag });
export const fileChmodRequest = z.object({ path, ...common, mode, recursive: flag });
export const fileChownRequest = z.object({ path, ...common, uid: owner, gid: owner, recursive: flag });
export const fileMkdirRequest = z.object({ path, ...common, mode: mode.nullish(), recursive: flag, mkdirParents: flag, mkdir: flag });
export const fileSymlinkRequest = z.object({ target: path, path, ...common });

export const FILE_TYPES = ["file", "directory", "symlink", "fifo", "socket", "character-device", "block-device", "unknown"] as const;

const permissions = z.string().regex(/^[0-7]{4}$/);
export const fileEntry = z.object({
  /** last part of the path; in a recursive list, the path relative to what was listed */
  name: z.string(),
  path: z.string(),
  type: z.enum(FILE_TYPES),
  size: z.number().int(),
  mode: permissions,
  modTime: z.iso.datetime(),
  isDir: z.boolean(),
  uid: z.number().int(),
  gid: z.number().int(),
  /** of a symbolic link */
  target: z.string().optional(),
});
export type FileEntry = z.infer<typeof fileEntry>;

const count = z.number().int();
export const fileListAnswer = z.object({ path: z.string(), entries: z.array(fileEntry), count });
export type FileList = z.infer<typeof fileListAnswer>;
export const fileWriteAnswer = z.object({ path: z.string(), size: z.number().int(), mode: permissions });
export type FileWritten = z.infer<typeof fileWriteAnswer>;
export const fileDeleteAnswer = z.object({ deleted: z.array(z.string()), count });
export const fileRenameAnswer = z.object({ source: z.string(), dest: z.string() });
export const fileCopyAnswer = z.object({
  copied: z.array(z.object({ source: z.string(), dest: z.string() })),
  count,
  totalBytes: z.number().int(),
});
export const fileChmodAnswer = z.object({ affected: z.array(z.object({ path: z.string(), mode: permissions })), count });
export const fileChownAnswer = z.object({
  affected: z.array(z.object({ path: z.string(), uid: z.number().int(), gid: z.number().int() })),
  count,
});
export const fileMkdirAnswer = z.object({ path: z.string(), mode: permissions });
export const fileSymlinkAnswer = z.object({ path: z.string(), target: z.string() });

/** A frame from the client of `fs/watch`. */
export const fileWatchRequest = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("subscribe"),
    paths: z.array(path).min(1).max(64),
    recursive: z.boolean().nullish(),
    ...common,
  }),
  z.object({ type: z.literal("unsubscribe"), paths: z.array(path).max(64).nullish(), workingDir: word.nullish() }),
]);

/** A frame to the client of `fs/watch`. */
export type FileWatchMessage =
  | { type: "subscribed" | "unsubscribed"; paths: string[] }
  | {
      type: "event";
      event: "write" | "create" | "remove" | "rename" | "chmod";
      path: string;
      timestamp: string;
      size?: number;
      isDir: boolean;
    }
  | { type: "error"; message: string; code?: string; path?: string };

const FAMILY = "Files";
const at = (name: string): string => `/v1/sprites/{name}/fs/${name}`;
const refused = (status: number, summary: string) => ({ [status]: { summary, body: { json: fileErrorBody } } });
const REFUSALS = {
  ...refused(400, "malformed parameter, or not possible with this kind of file (EINVAL, EISDIR, ENOTDIR)"),
  ...refused(403, "the user may not (EACCES, EPERM)"),
  ...refused(404, "no such file (ENOENT)"),
};
const CONFLICT = refused(409, "something is in the way (EEXIST, ENOTEMPTY)");
const json = (schema: z.ZodType, summary: string) => ({ 200: { summary, body: { json: schema } } });
const post = (name: string, summary: string, body: z.ZodType, answer: z.ZodType): RouteDescription => ({
  method: "POST",
  path: at(name),
  family: FAMILY,
  summary,
  body: { json: body },
  answers: { ...json(answer, "done"), ...REFUSALS, ...CONFLICT },
});
const CONTENT = { bytes: "application/octet-stream" };

export const filesRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: at("read"),
    family: FAMILY,
    summary: "Read a file, or one range of it.",
    query: fileReadQuery,
    answers: {
      200: { summary: "the file", body: CONTENT },
      206: { summary: "the range", body: CONTENT },
      304: { summary: "unchanged since the ETag of If-None-Match" },
      ...REFUSALS,
      ...refused(416, "the file has nothing of the range"),
    },
  },
  {
    method: "HEAD",
    path: at("read"),
    family: FAMILY,
    summary: "Ask for size and date of a file.",
    query: fileReadQuery,
    answers: { 200: { summary: "headers only" } },
  },
  {
    method: "PUT",
    path: at("write"),
    family: FAMILY,
    summary: "Write a file, new or in place of another.",
    query: fileWriteQuery,
    body: CONTENT,
    answers: { ...json(fileWriteAnswer, "written"), ...REFUSALS, ...CONFLICT, ...refused(413, "more than 16 MiB without `large`") },
  },
  {
    method: "GET",
    path: at("list"),
    family: FAMILY,
    summary: "List a directory, or tell about one file.",
    query: fileListQuery,
    answers: { ...json(fileListAnswer, "the entries"), ...REFUSALS },
  },
  {
    method: "DELETE",
    path: at("delete"),
    family: FAMILY,
    summary: "Delete a file or directory; parameters in the query or as a JSON body.",
    query: fileDeleteRequest,
    body: { json: fileDeleteRequest },
    answers: { ...json(fileDeleteAnswer, "deleted"), ...REFUSALS, ...CONFLICT },
  },
  post("rename", "Rename or move a file or directory.", fileRenameRequest, fileRenameAnswer),
  post("copy", "Copy a file or directory.", fileCopyRequest, fileCopyAnswer),
  post("chmod", "Change permissions.", fileChmodRequest, fileChmodAnswer),
  post("chown", "Change owner or group.", fileChownRequest, fileChownAnswer),
  { ...post("mkdir", "Make a directory.", fileMkdirRequest, fileMkdirAnswer), extension: true },
  { ...post("symlink", "Make a symbolic link.", fileSymlinkRequest, fileSymlinkAnswer), extension: true },
  {
    method: "GET",
    path: at("watch"),
    family: FAMILY,
    summary: "Watch files and directories for changes.",
    webSocket: { docs: "api/files.md" },
    answers: { 101: { summary: "WebSocket" } },
  },
];
