import { STREAM } from "@hob/protocol";

/**
 * A segment of a journal on disk is one record after the other, docs/api/exec.md:
 *
 * | offset | size | field |
 * | --- | --- | --- |
 * | 0 | 1 | stream: 1 standard output, 2 standard error, 3 end |
 * | 1 | 4 | length of the data, little endian, 1 to 65 536 |
 * | 5 | length | data; of an end one byte, the exit status |
 */
export const RECORD_HEADER_BYTES = 5;
/** A frame of the helper is no longer; longer texts are cut into several records. */
export const RECORD_BYTES_MAX = 64 * 1024;

/** What a session has written in one piece. `offset` counts the bytes of all output before it, of both streams together. */
export interface OutputRecord {
  readonly offset: number;
  /** 1 standard output, 2 standard error */
  readonly stream: number;
  readonly data: Buffer;
}

export const endOf = (record: OutputRecord): number => record.offset + record.data.length;

export function encodeHeader(stream: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt8(stream, 0);
  header.writeUInt32LE(length, 1);
  return header;
}

export interface Decoded {
  readonly records: OutputRecord[];
  /** bytes of whole and valid records, from the beginning */
  readonly bytes: number;
  /** offset after the last record */
  readonly end: number;
  readonly exitCode: number | undefined;
}

/**
 * Takes the whole records at the beginning of `bytes`; what follows them is the rest of a write that was interrupted,
 * or zeros that a crash left. @param offset of the first record
 */
export function decodeRecords(bytes: Buffer, offset: number): Decoded {
  const records: OutputRecord[] = [];
  let exitCode: number | undefined;
  let at = 0;
  let end = offset;
  while (exitCode === undefined) {
    const record = recordAt(bytes, at);
    if (record === undefined) break;
    if (record.stream === STREAM.exit) exitCode = record.data[0];
    else {
      records.push({ offset: end, ...record });
      end += record.data.length;
    }
    at += RECORD_HEADER_BYTES + record.data.length;
  }
  return { records, bytes: at, end, exitCode };
}

function recordAt(bytes: Buffer, at: number): { stream: number; data: Buffer } | undefined {
  if (at + RECORD_HEADER_BYTES > bytes.length) return undefined;
  const stream = bytes.readUInt8(at);
  const length = bytes.readUInt32LE(at + 1);
  const first = at + RECORD_HEADER_BYTES;
  if (first + length > bytes.length) return undefined;
  const isOutput = (stream === STREAM.stdout || stream === STREAM.stderr) && length >= 1 && length <= RECORD_BYTES_MAX;
  if (!isOutput && !(stream === STREAM.exit && length === 1)) return undefined;
  return { stream, data: bytes.subarray(first, first + length) };
}
