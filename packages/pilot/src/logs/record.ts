export type LogStream = "stdout" | "stderr";

/** Whole lines that a service wrote at one time. */
export interface LogBlock {
  readonly stream: LogStream;
  /** any bytes; each line ends with a line feed, the last one too */
  readonly text: Buffer;
  /** Unix time, milliseconds */
  readonly timeMs: number;
}

const PREFIX = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \[(stdout|stderr)\] /;
/** Longest prefix that {@link PREFIX} can match. */
const PREFIX_CHARACTERS = 36;

/**
 * Lines as they stand in a log file, one record each: `2026-06-02T17:11:17.821Z [stderr] text`.
 *
 * A service may write millions of short lines, and the pilot runs without a JIT (D15): so here, and in
 * {@link parseRecords}, nothing is done per line but what the engine's own string functions do.
 */
export function formatBlock({ stream, text, timeMs }: LogBlock): Buffer {
  const prefix = `${new Date(timeMs).toISOString()} [${stream}] `;
  // Latin-1 keeps every byte as it is.
  const lines = text.toString("latin1", 0, text.length - 1);
  return Buffer.from(`${prefix}${lines.replaceAll("\n", `\n${prefix}`)}\n`, "latin1");
}

/**
 * The inverse: whole records, those of one time and stream together. What `formatBlock` did not write is left out.
 * @param records latin1, each ended by a line feed
 */
export function* parseRecords(records: string): Generator<LogBlock> {
  let prefix: string | undefined;
  let lines: string[] = [];
  for (let at = 0, end = records.indexOf("\n"); end >= 0; at = end + 1, end = records.indexOf("\n", at)) {
    if (prefix === undefined || !records.startsWith(prefix, at)) {
      if (prefix !== undefined) yield toBlock(prefix, lines);
      lines = [];
      prefix = PREFIX.exec(records.slice(at, Math.min(end, at + PREFIX_CHARACTERS)))?.[0];
      if (prefix === undefined) continue;
    }
    lines.push(records.slice(at + prefix.length, end + 1));
  }
  if (prefix !== undefined) yield toBlock(prefix, lines);
}

function toBlock(prefix: string, lines: readonly string[]): LogBlock {
  const [, time = "", stream] = PREFIX.exec(prefix) ?? [];
  const timeMs = Date.parse(time);
  return { stream: stream as LogStream, text: Buffer.from(lines.join(""), "latin1"), timeMs: Number.isNaN(timeMs) ? 0 : timeMs };
}
