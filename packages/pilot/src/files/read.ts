import { fileReadQuery, SPRITE_VERSION } from "@hob/protocol";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { FileInfo, FileStream } from "../helper/files.ts";
import type { FileRequest } from "../helper/index.ts";
import type { FileOperations } from "./operations.ts";
import { type FilesContext, queryParameters } from "./parameters.ts";
import { absolutePath } from "./paths.ts";

/** Unix time that a Date can show, and an HTTP date too. */
const LAST_DATE_MS = Date.UTC(9999, 11, 31);

/** GET and HEAD of `fs/read`, with one range. */
export async function readFile(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { path, workingDir, asRoot } = queryParameters(c, fileReadQuery, "read");
  // Whether an If-Range holds is known too late; to send all is always right. RFC 9110 section 13.1.5.
  const range = c.req.header("if-range") === undefined ? parseRange(c.req.header("range")) : undefined;
  const absolute = absolutePath(path, workingDir);
  const flags = { infoOnly: c.req.method === "HEAD" };
  const request = { operation: "read", path: absolute, asRoot, flags, ...(range === undefined ? {} : { range }) } as const;
  return operations.during(c.env.outgoing, request, async (stream) => {
    const info = await stream.info();
    const etag = etagOf(info);
    if (c.req.header("if-none-match") === etag) return c.body(null, 304, { ETag: etag });
    if (range !== undefined && info.lengthBytes === 0) {
      const body = { error: `EINVAL: the file has ${info.sizeBytes} bytes, read '${absolute}'`, code: "EINVAL", path: absolute };
      return c.json(body, 416, { "Content-Range": `bytes */${info.sizeBytes}` });
    }
    return sendContent(c, stream, info, range !== undefined);
  });
}

/** Answers with the content that follows `info`. */
export async function sendContent(c: FilesContext, stream: FileStream, info: FileInfo, partial: boolean): Promise<Response> {
  const { outgoing } = c.env;
  const status = partial ? 206 : 200;
  const headers = {
    "Content-Type": "application/octet-stream",
    "Content-Length": String(info.lengthBytes),
    "Accept-Ranges": "bytes",
    "Last-Modified": new Date(Math.min(Math.max(info.modifiedMs, 0), LAST_DATE_MS)).toUTCString(),
    ETag: etagOf(info),
    "Sprite-Version": SPRITE_VERSION,
    ...(partial ? { "Content-Range": `bytes ${info.startByte}-${info.startByte + info.lengthBytes - 1}/${info.sizeBytes}` } : {}),
  };
  if (c.req.method === "HEAD") return c.body(null, status, headers);
  outgoing.writeHead(status, headers);
  try {
    if (info.lengthBytes > 0) await stream.copyContent(info.lengthBytes, outgoing);
    outgoing.end();
  } catch {
    // The status is sent: a body that is shorter than its length says that it is not whole.
    outgoing.destroy();
  }
  return RESPONSE_ALREADY_SENT;
}

/** Weak: two writes within one tick of the file system's clock are told apart by the inode only. */
const etagOf = ({ sizeBytes, modifiedNs, inode }: FileInfo): string =>
  `W/"${sizeBytes.toString(16)}-${modifiedNs.toString(16)}-${inode.toString(16)}"`;

/** Room for two numbers and some space around them; the pattern's time grows with the square of a header's length. */
const RANGE_CHARACTERS_MAX = 100;

/** One range of bytes. What is malformed, or several ranges, is as if not there. RFC 9110 section 14.2. */
export function parseRange(header: string | undefined): FileRequest["range"] {
  if (header === undefined || header.length > RANGE_CHARACTERS_MAX) return undefined;
  const match = /^bytes=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*$/.exec(header);
  if (match === null) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "") return last === "" ? undefined : { suffix: Number(last) };
  if (last === "") return { offset: Number(first) };
  if (Number(last) < Number(first)) return undefined;
  return { offset: Number(first), length: Number(last) - Number(first) + 1 };
}
