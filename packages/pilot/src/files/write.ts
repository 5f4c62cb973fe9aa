import type { IncomingMessage } from "node:http";
import { FILE_WRITE_BYTES_MAX, fileWriteQuery, HobError } from "@hob/protocol";
import type { FileStream, FilesDone } from "../helper/files.ts";
import type { FileOperations } from "./operations.ts";
import { type FilesContext, queryParameters } from "./parameters.ts";
import { absolutePath, lastPart, withoutSlash } from "./paths.ts";

/** The SDKs make a directory by writing this file into it; they ask for missing parents only when the user does. */
const DIRECTORY_MARKER = ".keep";

/** PUT of `fs/write`. */
export async function writeFile(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { path, workingDir, asRoot, mode, mkdir, mkdirParents, large } = queryParameters(c, fileWriteQuery, "write");
  const { incoming, outgoing } = c.env;
  const bytesMax = large ? Number.POSITIVE_INFINITY : FILE_WRITE_BYTES_MAX;
  if (Number(incoming.headers["content-length"] ?? 0) > bytesMax) return tooLarge(c, path);
  const absolute = absolutePath(path, workingDir);
  const parents = mkdir || mkdirParents;
  const flags = { parents, parent: !parents && c.req.query("mkdirParents") === undefined && lastPart(absolute) === DIRECTORY_MARKER };
  const request = { operation: "write", path: absolute, asRoot, flags, ...(mode === undefined || mode === null ? {} : { mode }) } as const;
  return operations.during(outgoing, request, async (stream) => {
    await stream.ready();
    const done = await transfer(incoming, stream, bytesMax);
    if (done === undefined) return tooLarge(c, absolute);
    return c.json({ path: withoutSlash(absolute), size: done.bytes, mode: formatMode(done.mode) });
  });
}

export const formatMode = (mode: number): string => mode.toString(8).padStart(4, "0");

/**
 * Sends the body to the helper. @returns undefined if it has more than `bytesMax`
 * @throws FileError as soon as the helper reports one: a full disk does not wait for the end of the body
 */
async function transfer(incoming: IncomingMessage, stream: FileStream, bytesMax: number): Promise<FilesDone | undefined> {
  const done = stream.done();
  let failure: unknown;
  done.catch((error: unknown) => {
    failure = error;
  });
  let bytes = 0;
  try {
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      bytes += (chunk as Buffer).length;
      if (bytes > bytesMax) return undefined;
      await stream.write(chunk as Buffer);
      if (failure !== undefined) throw failure;
    }
  } catch (error) {
    // A body that is cut off is not written: the helper removes what it has of it.
    if (incoming.readableAborted) throw new HobError("invalid_request", "write: the body ended early");
    throw failure ?? error;
  }
  stream.end();
  return done;
}

function tooLarge(c: FilesContext, path: string): Response {
  const error = `write: more than ${FILE_WRITE_BYTES_MAX} bytes need the parameter large=true`;
  return c.json({ error, code: "EINVAL", path }, 413, { Connection: "close" });
}
