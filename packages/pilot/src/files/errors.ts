import { type FileErrorBody, type FileErrorCode, HobError, SPRITE_VERSION } from "@hob/protocol";
import type { Context } from "hono";
import type { Logger } from "pino";
import { FileError } from "../helper/index.ts";

/** How an errno is told: by a code that the SDKs know, and a status. */
const KNOWN: Readonly<Record<string, { code: FileErrorCode; status: number }>> = {
  ENOENT: { code: "ENOENT", status: 404 },
  EEXIST: { code: "EEXIST", status: 409 },
  ENOTEMPTY: { code: "ENOTEMPTY", status: 409 },
  ENOTDIR: { code: "ENOTDIR", status: 400 },
  EISDIR: { code: "EISDIR", status: 400 },
  EINVAL: { code: "EINVAL", status: 400 },
  ELOOP: { code: "EINVAL", status: 400 },
  ENAMETOOLONG: { code: "EINVAL", status: 400 },
  EXDEV: { code: "EINVAL", status: 400 },
  EFBIG: { code: "EINVAL", status: 400 },
  EOPNOTSUPP: { code: "EINVAL", status: 400 },
  ENXIO: { code: "EINVAL", status: 400 },
  EACCES: { code: "EACCES", status: 403 },
  EPERM: { code: "EPERM", status: 403 },
  EROFS: { code: "EPERM", status: 403 },
  EBUSY: { code: "EIO", status: 409 },
  ETXTBSY: { code: "EIO", status: 409 },
  ENOSPC: { code: "EIO", status: 507 },
  EDQUOT: { code: "EIO", status: 507 },
};
const FAULT = { code: "EIO", status: 500 } as const;

/** What a client is told of an error, in the shape that the SDKs read. */
export function fileErrorBody(error: FileError, operation: string): FileErrorBody {
  const { code } = KNOWN[error.errno] ?? FAULT;
  const body: FileErrorBody = { error: `${error.errno}: ${error.message}, ${operation} '${error.path}'`, code, path: error.path };
  if (error.errno === code) return body;
  return { ...body, errno: error.errno, ...(error.errno === "EROFS" ? { hint: readOnlyHint(error.path) } : {}) };
}

/** What is read-only inside, whoever one is, and what to do instead. */
function readOnlyHint(path: string): string {
  const [, id] = /^\/\.sprite\/checkpoints\/([^/]+)/.exec(path) ?? [];
  if (id !== undefined)
    return `checkpoints do not change: copy the file to another place, or restore it with 'hob restore NAME ${id} --path PATH'`;
  if (path === "/.sprite" || path.startsWith("/.sprite/")) return "/.sprite belongs to the platform and does not change: use another place";
  return "this place is mounted read-only: use another one";
}

/** Errors of the routes of files. What is no error of a file goes on to the handler of all routes. */
export const answerError =
  (log: Pick<Logger, "error">) =>
  (thrown: unknown, c: Context): Response => {
    const version = { "Sprite-Version": SPRITE_VERSION };
    const operation = c.req.path.slice(c.req.path.lastIndexOf("/") + 1);
    if (thrown instanceof FileError) {
      const { status } = KNOWN[thrown.errno] ?? FAULT;
      return c.json(fileErrorBody(thrown, operation), status as 400, version);
    }
    const error = thrown instanceof HobError ? thrown : new HobError("internal", "internal error", { cause: thrown });
    if (error.status >= 500) log.error({ err: error.cause ?? error, operation }, `files: ${error.message}`);
    // The SDKs show `error`. A code of Hob's own stands there only where it says what to do: repeat, or look at the log.
    const body = error.status < 500 ? { error: error.message, code: "EINVAL", path: "" } : { ...error.toBody(), code: "EIO" };
    return c.json(body, error.status as 400, version);
  };
