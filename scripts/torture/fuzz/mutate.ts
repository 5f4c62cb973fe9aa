import type { Random } from "../../../packages/storage/test/support/random.ts";

/** Numbers at which lengths, offsets and counts go wrong. */
const EDGES = [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Texts that mean something to one parser or another. */
export const HOSTILE_TEXTS: readonly string[] = [
  ...[
    "",
    "\0",
    "\r\n",
    "\n",
    "\r",
    "\t",
    " ",
    "%00",
    "%0d%0a",
    "%",
    "%zz",
    "%ff",
    "%2e%2e%2f",
    "..",
    ".",
    "/",
    "//",
    "\\",
    "?",
    "#",
    "&",
    "=",
  ],
  ...["__proto__", "constructor", "toString", "null", "undefined", "true", "NaN", "Infinity", "-0", "-1", "1e999", "0x10", "1_0", "٣"],
  ...["9007199254740993", "99999999999999999999", "-9223372036854775809", "0.1", "1e-7"],
  ...[
    '"',
    "'",
    "`",
    "$(id)",
    ";",
    "|",
    "{}",
    "[]",
    '{"a":',
    "\u0000\u0001",
    "\ud800",
    "\ufeff",
    "é",
    "日本",
    "👩‍👩‍👧",
    "İ",
    "ß",
    "\u202e",
    "\u2028",
  ],
  ...[
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "Upgrade: websocket\r\n",
    "*",
    "*.",
    "#",
    "@",
  ],
];

/** The largest is about what a request's head may hold. */
const REPEATS = [2, 3, 17, 255, 1_000, 20_000, 200_000];
/** A mutated input is no longer than this, unless the original is. */
const BYTES_MAX = 512 * 1024;

type Mutation = (random: Random, bytes: Buffer, corpus: readonly Buffer[]) => Buffer;

const at = (random: Random, bytes: Buffer): number => random.below(bytes.length + 1);

function slice(random: Random, bytes: Buffer): Buffer {
  const [a, b] = [at(random, bytes), at(random, bytes)];
  return bytes.subarray(Math.min(a, b), Math.max(a, b));
}

const insert = (bytes: Buffer, position: number, part: Buffer, removed = 0): Buffer =>
  Buffer.concat([bytes.subarray(0, position), part, bytes.subarray(position + removed)]);

export const randomBytes = (random: Random, length: number): Buffer => Buffer.from(Array.from({ length }, () => random.below(256)));

/** Writes an edge number of 1, 2, 4 or 8 bytes, either way round. */
function edgeNumber(random: Random): Buffer {
  const bytes = Buffer.alloc(8);
  const value = random.pick(EDGES);
  const size = random.pick([1, 2, 4, 8]);
  if (random.chance(0.5)) bytes.writeUInt32LE(value % 2 ** 32, 0);
  else bytes.writeUInt32BE(value % 2 ** 32, size === 8 ? 4 : 0);
  if (size === 8 && random.chance(0.3)) bytes.fill(0xff);
  return size === 2 && random.chance(0.5) ? bytes.subarray(2, 4) : bytes.subarray(0, size);
}

const flipBits: Mutation = (random, bytes) => {
  const copy = Buffer.from(bytes);
  for (let i = 1 + random.below(4); i > 0 && copy.length > 0; i--) {
    const position = random.below(copy.length);
    copy[position] = (copy[position] ?? 0) ^ (1 << random.below(8));
  }
  return copy;
};

const MUTATIONS: readonly Mutation[] = [
  flipBits,
  flipBits,
  // truncation, at either end
  (random, bytes) => bytes.subarray(0, at(random, bytes)),
  (random, bytes) => bytes.subarray(at(random, bytes)),
  // a part left out, repeated, or put elsewhere
  (random, bytes) => {
    const position = at(random, bytes);
    return insert(bytes, position, Buffer.alloc(0), random.below(16));
  },
  (random, bytes) => {
    const part = slice(random, bytes);
    const times = Math.min(random.pick(REPEATS), Math.floor(BYTES_MAX / Math.max(1, part.length)));
    return insert(bytes, at(random, bytes), Buffer.concat(Array.from({ length: times }, () => part)));
  },
  (random, bytes) => insert(bytes, at(random, bytes), slice(random, bytes)),
  // two valid inputs joined
  (random, bytes, corpus) => {
    const other = random.pick(corpus);
    return Buffer.concat([bytes.subarray(0, at(random, bytes)), other.subarray(at(random, other))]);
  },
  // numbers in the place of others
  (random, bytes) => {
    const number = edgeNumber(random);
    return insert(bytes, random.below(Math.max(1, bytes.length - number.length)), number, number.length);
  },
  (random, bytes) => replaceNumber(random, bytes),
  // text with a meaning
  (random, bytes) => insert(bytes, at(random, bytes), Buffer.from(random.pick(HOSTILE_TEXTS)), random.below(3)),
  (random, bytes) =>
    insert(bytes, at(random, bytes), Buffer.alloc(random.pick(REPEATS), random.pick(["a", "\0", "%", "[", "/", "9", " "]))),
  (random, bytes) => insert(bytes, at(random, bytes), randomBytes(random, 1 + random.below(16)), random.below(4)),
];

/** A decimal number in a text becomes another. */
function replaceNumber(random: Random, bytes: Buffer): Buffer {
  const found = [...bytes.toString("latin1").matchAll(/\d+/g)];
  if (found.length === 0) return bytes;
  const match = random.pick(found);
  const value = random.pick([...EDGES.map(String), "-1", "99999999999999999999", "1e9", "00", "0x1f", "1.5", ""]);
  return insert(bytes, match.index, Buffer.from(value), match[0].length);
}

/** A valid input, one that is nearly so, or noise. */
export function mutated(random: Random, corpus: readonly Buffer[]): Buffer {
  const kind = random.below(20);
  if (kind === 0) return randomBytes(random, random.below(200));
  let bytes = random.pick(corpus);
  if (kind <= 2) return bytes;
  for (let i = random.pick([1, 1, 1, 2, 3]); i > 0; i--) {
    const next = random.pick(MUTATIONS)(random, bytes, corpus);
    if (next.length <= Math.max(BYTES_MAX, bytes.length)) bytes = next;
  }
  return bytes;
}

/** The same for text; what is no UTF-8 comes as the replacement character, or byte by byte as Latin-1. */
export function mutatedText(random: Random, corpus: readonly string[]): string {
  const bytes = mutated(
    random,
    corpus.map((text) => Buffer.from(text)),
  );
  return bytes.toString(random.chance(0.8) ? "utf8" : "latin1");
}

/** A value of JSON, some of whose parts are others than they were. */
export function mutatedJson(random: Random, value: unknown): unknown {
  if (random.chance(0.12)) return hostileValue(random);
  if (Array.isArray(value)) {
    const items = value.flatMap((item) =>
      random.chance(0.1) ? [] : random.chance(0.1) ? [item, mutatedJson(random, item)] : [mutatedJson(random, item)],
    );
    return random.chance(0.03) ? many(items[0]) : items;
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(() => !random.chance(0.1));
    const changed: [string, unknown][] = entries.map(([key, item]) => [
      random.chance(0.05) ? random.pick(HOSTILE_TEXTS) : key,
      mutatedJson(random, item),
    ]);
    if (random.chance(0.1)) changed.push([random.pick(HOSTILE_TEXTS), hostileValue(random)]);
    return Object.fromEntries(changed);
  }
  if (typeof value === "string" && random.chance(0.3)) return mutatedText(random, [value]);
  if (typeof value === "number" && random.chance(0.3)) return random.pick([...EDGES, -1, 0.5, 1e21, -1e308, Number.MAX_SAFE_INTEGER]);
  return value;
}

/** A list that is longer than any should be, of a size that still fits into memory. */
function many(item: unknown): unknown[] {
  const isSmall = (JSON.stringify(item)?.length ?? 0) < 500;
  return Array.from({ length: 2_000 }, () => (isSmall ? (item ?? null) : null));
}

function hostileValue(random: Random): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => true,
    () => random.pick(EDGES),
    () => -1,
    () => 0.5,
    () => random.pick(HOSTILE_TEXTS),
    () => "x".repeat(random.pick(REPEATS)),
    () => [],
    () => ({}),
    () => JSON.parse(`${"[".repeat(500)}${"]".repeat(500)}`),
    () => ({ [random.pick(HOSTILE_TEXTS)]: random.pick(HOSTILE_TEXTS) }),
  ])();
}

/** Cuts bytes into the pieces in which they may arrive. */
export function pieces(random: Random, bytes: Buffer): Buffer[] {
  if (random.chance(0.5)) return [bytes];
  const result: Buffer[] = [];
  for (let position = 0; position < bytes.length && result.length < 20; ) {
    const end = position + 1 + random.below(Math.max(1, bytes.length - position));
    result.push(bytes.subarray(position, end));
    position = end;
  }
  return result;
}
