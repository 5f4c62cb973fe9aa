import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { LOG_PULL_LIMITS, type LogCursor, type LogsPullResponse, type ShippedBlock } from "@hob/protocol";
import { parseRecords } from "./record.ts";

const LOG_NAME = /^(.+)\.log$/;

type Place = LogCursor[string];

interface Segment {
  readonly path: string;
  readonly id: string;
  readonly bytes: number;
}

/**
 * Lines of all logs of a folder behind a cursor, whole, up to LOG_PULL_LIMITS.bytes of them in fair shares. The caller
 * sees to it that no file is renamed meanwhile.
 * @param files parts that one log may have
 */
export async function readSince(directory: string, files: number, cursor: LogCursor): Promise<LogsPullResponse> {
  const blocks: ShippedBlock[] = [];
  const next: LogCursor = {};
  let left: number = LOG_PULL_LIMITS.bytes;
  const names = await readdir(directory).catch(() => []);
  const services = names.flatMap((name) => LOG_NAME.exec(name)?.[1] ?? []).sort();
  for (const [index, service] of services.entries()) {
    const segments = await segmentsOf(join(directory, `${service}.log`), files);
    const share = Math.floor(left / (services.length - index));
    const { records, place } = await readLog(segments, cursor[service], share);
    for (const { stream, text, timeMs } of parseRecords(records)) blocks.push({ service, stream, timeMs, text: text.toString("utf8") });
    left = Math.max(0, left - records.length);
    if (place !== undefined) next[service] = place;
  }
  return { blocks, cursor: next };
}

/** One log behind a place in it; from the oldest part on if that place is gone. */
async function readLog(
  segments: readonly Segment[],
  from: Place | undefined,
  bound: number,
): Promise<{ records: string; place: Place | undefined }> {
  let records = "";
  let place = from;
  const start = segments.findIndex(({ id }) => id === from?.segment);
  for (const segment of segments.slice(Math.max(0, start))) {
    const offset = segment.id === from?.segment ? Math.min(from.offset, segment.bytes) : 0;
    const more = offset < segment.bytes && records.length < bound ? await readRecords(segment, offset, bound - records.length) : "";
    records += more;
    place = { segment: segment.id, offset: offset + more.length };
    if (place.offset < segment.bytes) break;
  }
  return { records, place };
}

/** Parts of one log, oldest first. An inode's number is soon used again, its time of birth is not: statx(2). */
async function segmentsOf(path: string, files: number): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (let age = files - 1; age >= 0; age--) {
    const part = age === 0 ? path : `${path}.${age}`;
    const info = await stat(part, { bigint: true }).catch(() => undefined);
    if (info !== undefined) segments.push({ path: part, id: `${info.ino}.${info.birthtimeNs}`, bytes: Number(info.size) });
  }
  return segments;
}

/** Whole records, as latin1; empty if the first one is not complete yet. One that is longer than the bound is given whole. */
async function readRecords({ path, bytes }: Segment, offset: number, bound: number): Promise<string> {
  const file = await open(path, "r");
  try {
    for (let size = Math.min(bound, bytes - offset); ; size = Math.min(2 * size, bytes - offset)) {
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(size), 0, size, offset);
      const text = buffer.toString("latin1", 0, bytesRead);
      const end = text.lastIndexOf("\n") + 1;
      if (end > 0 || bytesRead < size || size >= bytes - offset) return text.slice(0, end);
    }
  } finally {
    await file.close();
  }
}
