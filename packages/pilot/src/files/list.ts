import type { ServerResponse } from "node:http";
import { FILE_TYPES, type FileEntry, fileListQuery, SPRITE_VERSION } from "@hob/protocol";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { FileStream } from "../helper/files.ts";
import type { EntryRecord } from "../helper/index.ts";
import type { FileOperations } from "./operations.ts";
import { type FilesContext, queryParameters } from "./parameters.ts";
import { absolutePath, lastPart, pathBelow, withoutSlash } from "./paths.ts";
import { formatMode } from "./write.ts";

/** Entries that are collected, to be sorted by name; of more, the order is the file system's, and memory is not needed. */
const SORTED_MAX = 5_000;

const TYPE_OF_KIND: Readonly<Record<string, FileEntry["type"]>> = Object.fromEntries(
  [..."fdlpscb?"].map((kind, index) => [kind, FILE_TYPES[index] ?? "unknown"]),
);
/** What RFC 3339 can express. */
const FIRST_DATE_MS = Date.parse("0001-01-01T00:00:00Z");
const LAST_DATE_MS = Date.UTC(9999, 11, 31);

/** GET of `fs/list`. */
export async function listFiles(c: FilesContext, operations: FileOperations): Promise<Response> {
  const { path, workingDir, asRoot, recursive, pattern, stat } = queryParameters(c, fileListQuery, "list");
  const absolute = absolutePath(path || ".", workingDir);
  const flags = { recursive, itself: stat };
  const request = { operation: "list", path: absolute, asRoot, flags, ...(pattern ? { pattern } : {}) } as const;
  return operations.during(c.env.outgoing, request, (stream) => answerList(c, stream, absolute));
}

/** Answers with what a list gives. @param absolute path that was listed */
export async function answerList(c: FilesContext, stream: FileStream, absolute: string): Promise<Response> {
  const entries = stream.entries();
  const collected: EntryRecord[] = [];
  for (;;) {
    const next = await entries.next();
    if (next.done === true) break;
    for (const entry of next.value) collected.push(entry);
    if (collected.length > SORTED_MAX) return sendStream(c, entries, absolute, collected);
  }
  collected.sort((a, b) => (a.path < b.path ? -1 : 1));
  return c.json({
    path: withoutSlash(absolute),
    entries: collected.map((entry) => presentEntry(entry, absolute)),
    count: collected.length,
  });
}

/** The same, entry by entry as they come. What fails now can only cut the answer off. */
async function sendStream(
  c: FilesContext,
  entries: ReturnType<FileStream["entries"]>,
  absolute: string,
  first: readonly EntryRecord[],
): Promise<Response> {
  const { outgoing } = c.env;
  outgoing.writeHead(200, { "Content-Type": "application/json", "Sprite-Version": SPRITE_VERSION });
  const text = (batch: readonly EntryRecord[]) => batch.map((entry) => JSON.stringify(presentEntry(entry, absolute))).join(",");
  try {
    await write(outgoing, `{"path":${JSON.stringify(withoutSlash(absolute))},"entries":[${text(first)}`);
    for (;;) {
      const next = await entries.next();
      if (next.done === true) {
        outgoing.end(`],"count":${next.value.count}}`);
        break;
      }
      if (next.value.length > 0) await write(outgoing, `,${text(next.value)}`);
    }
  } catch {
    outgoing.destroy();
  }
  return RESPONSE_ALREADY_SENT;
}

function write(outgoing: ServerResponse, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    if (outgoing.destroyed) return reject(new Error("the client has gone"));
    outgoing.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

function presentEntry(entry: EntryRecord, listed: string): FileEntry {
  return {
    name: entry.path === "" ? lastPart(listed) : entry.path,
    path: pathBelow(listed, entry.path),
    type: TYPE_OF_KIND[entry.kind] ?? "unknown",
    size: entry.sizeBytes,
    mode: formatMode(entry.mode),
    modTime: new Date(Math.min(Math.max(entry.modifiedMs, FIRST_DATE_MS), LAST_DATE_MS)).toISOString(),
    isDir: entry.kind === "d",
    uid: entry.uid,
    gid: entry.gid,
    ...(entry.kind === "l" ? { target: entry.linkTarget } : {}),
  };
}
