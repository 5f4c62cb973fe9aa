import type { FileHandle } from "node:fs/promises";
import { LINE_BYTES_MAX } from "./line-splitter.ts";
import type { LogSegment } from "./log-file.ts";
import { type LogBlock, parseRecords } from "./record.ts";

const CHUNK_BYTES = 64 * 1024;
const LINE_FEED = 0x0a;
/** Nothing of ours is longer: what is, is not a log. */
const RECORD_BYTES_MAX = LINE_BYTES_MAX + 64;

interface Place {
  segment: number;
  offset: number;
}

/**
 * Reads the lines of a snapshot, oldest first, and closes its files at the end. Memory does not grow with the log.
 * @param last only so many lines, the newest; default all
 */
export async function* readBlocks(segments: readonly LogSegment[], last = Number.POSITIVE_INFINITY): AsyncGenerator<LogBlock> {
  try {
    const from = last === 0 ? undefined : await startOfLast(segments, last);
    if (from === undefined) return;
    for (const [index, segment] of segments.entries()) {
      if (index >= from.segment) yield* blocksOf(segment, index === from.segment ? from.offset : 0);
    }
  } finally {
    await Promise.all(segments.map(({ file }) => file.close()));
  }
}

/** The same of a snapshot that is being taken. */
export async function* readSnapshot(snapshot: Promise<readonly LogSegment[]>, last?: number): AsyncGenerator<LogBlock> {
  yield* readBlocks(await snapshot, last);
}

/** Where the last `count` lines begin, found backwards from the end. */
async function startOfLast(segments: readonly LogSegment[], count: number): Promise<Place | undefined> {
  if (segments.length === 0) return undefined;
  if (count === Number.POSITIVE_INFINITY) return { segment: 0, offset: 0 };
  let found = 0;
  for (let index = segments.length - 1; index >= 0; index--) {
    const { file, bytes } = segments[index] as LogSegment;
    for (let end = bytes; end > 0; ) {
      const start = Math.max(0, end - CHUNK_BYTES);
      const chunk = await readAt(file, start, end - start);
      for (let at = chunk.lastIndexOf(LINE_FEED); at >= 0; at = at === 0 ? -1 : chunk.lastIndexOf(LINE_FEED, at - 1)) {
        // A line feed ends a line: the one that is wanted begins behind the feed before its own.
        if (found++ === count) return { segment: index, offset: start + at + 1 };
      }
      end = start;
    }
  }
  return { segment: 0, offset: 0 };
}

async function* blocksOf({ file, bytes }: LogSegment, offset: number): AsyncGenerator<LogBlock> {
  let rest = "";
  for (let at = offset; at < bytes; ) {
    const chunk = await readAt(file, at, Math.min(CHUNK_BYTES, bytes - at));
    if (chunk.length === 0) return;
    at += chunk.length;
    const text = rest + chunk.toString("latin1");
    const end = text.lastIndexOf("\n") + 1;
    yield* parseRecords(text.slice(0, end));
    rest = text.length - end > RECORD_BYTES_MAX ? "" : text.slice(end);
  }
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
