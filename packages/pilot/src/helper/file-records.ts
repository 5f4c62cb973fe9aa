/** One entry of a list, or of what an operation changed; `docs/formats/helper-protocol.md`, ENTRIES. */
export interface EntryRecord {
  /** relative to what the request names; "" is that itself */
  readonly path: string;
  /** text of a symbolic link, else "" */
  readonly linkTarget: string;
  /** f, d, l, p, s, c, b or ? */
  readonly kind: string;
  /** permissions, 0 to 0o7777 */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  readonly uid: number;
  readonly gid: number;
}

const ENTRY_HEADER_BYTES = 37;

export function decodeEntries(payload: Buffer): EntryRecord[] {
  const entries: EntryRecord[] = [];
  for (let at = 0; at < payload.length; ) {
    const pathStart = at + ENTRY_HEADER_BYTES;
    const pathEnd = pathStart + payload.readUInt16LE(at);
    const end = pathEnd + payload.readUInt16LE(at + 2);
    entries.push({
      // Bytes that are no UTF-8 become U+FFFD: JSON cannot carry them.
      path: payload.toString("utf8", pathStart, pathEnd),
      linkTarget: payload.toString("utf8", pathEnd, end),
      kind: String.fromCharCode(payload.readUInt8(at + 4)),
      mode: payload.readUInt32LE(at + 5),
      sizeBytes: readUInt64(payload, at + 9),
      modifiedMs: readInt64(payload, at + 17) * 1000 + Math.floor(payload.readUInt32LE(at + 25) / 1_000_000),
      uid: payload.readUInt32LE(at + 29),
      gid: payload.readUInt32LE(at + 33),
    });
    at = end;
  }
  return entries;
}

export type EventKind = "create" | "write" | "remove" | "rename" | "chmod" | "overflow" | "limit" | "gone";

export interface EventRecord {
  readonly kind: EventKind;
  /** relative to what is watched; "" is that itself */
  readonly path: string;
  readonly isDir: boolean;
  readonly sizeBytes: number;
  /** Unix time */
  readonly timeMs: number;
}

const EVENT_HEADER_BYTES = 20;
const EVENT_KINDS: Readonly<Record<string, EventKind>> = {
  c: "create",
  w: "write",
  r: "remove",
  n: "rename",
  m: "chmod",
  o: "overflow",
  l: "limit",
  g: "gone",
};

export function decodeEvents(payload: Buffer): EventRecord[] {
  const events: EventRecord[] = [];
  for (let at = 0; at < payload.length; ) {
    const end = at + EVENT_HEADER_BYTES + payload.readUInt16LE(at + 2);
    events.push({
      kind: EVENT_KINDS[String.fromCharCode(payload.readUInt8(at))] ?? "overflow",
      path: payload.toString("utf8", at + EVENT_HEADER_BYTES, end),
      isDir: payload.readUInt8(at + 1) === 1,
      sizeBytes: readUInt64(payload, at + 4),
      timeMs: readUInt64(payload, at + 12),
    });
    at = end;
  }
  return events;
}

/** Without BigInt, which costs much in a list of 100,000 entries; exact up to 2^53. */
const readUInt64 = (bytes: Buffer, at: number): number => bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
const readInt64 = (bytes: Buffer, at: number): number => bytes.readUInt32LE(at) + bytes.readInt32LE(at + 4) * 2 ** 32;
