/** Frames of RFC 6455, section 5.2, as bytes: also those that no library sends. */
import type { Random } from "../../../packages/storage/test/support/random.ts";
import { mutated, mutatedText } from "./mutate.ts";
import { ensure, Fault } from "./target.ts";

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** @param masked as frames of a client must be; the key is zero, so that the payload stays readable */
export function frame(opcode: number, payload: Buffer, { masked = true, fin = true } = {}): Buffer {
  const length = payload.length;
  const head = length < 126 ? Buffer.of(0, length) : length < 65_536 ? Buffer.alloc(4) : Buffer.alloc(10);
  head[0] = opcode | (fin ? 0x80 : 0);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  if (head.length > 2) head[1] = head.length === 4 ? 126 : 127;
  head[1] = (head[1] ?? 0) | (masked ? 0x80 : 0);
  return Buffer.concat([head, masked ? Buffer.alloc(4) : Buffer.alloc(0), payload]);
}

/** Some frames: right ones with wrong contents, wrong ones, and bytes that are none. */
export function frames(random: Random, texts: readonly string[], binaries: readonly Buffer[], masked = true): Buffer {
  const made: Buffer[] = [];
  for (let i = 1 + random.below(4); i > 0; i--) {
    const isText = random.chance(0.5);
    const payload = isText ? Buffer.from(mutatedText(random, texts)) : mutated(random, binaries);
    const opcode = random.chance(0.1) ? random.below(16) : isText ? OPCODE.text : OPCODE.binary;
    made.push(frame(opcode, payload, { masked: random.chance(0.03) ? !masked : masked, fin: !random.chance(0.05) }));
  }
  if (random.chance(0.3))
    made.push(frame(OPCODE.close, random.pick([Buffer.alloc(0), Buffer.of(3, 232), Buffer.of(0), Buffer.of(3, 237)]), { masked }));
  const bytes = Buffer.concat(made);
  return random.chance(0.3) ? mutated(random, [bytes]) : bytes;
}

/** Codes with which a server may close; 1011 says that it failed. RFC 6455 section 7.4.1, and 4000 + N of terminals. */
const CLOSE_CODES = new Set([1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 1013]);

/**
 * Looks at what a server sent after the upgrade: whole frames, unmasked, and a close with a right code.
 * @param failures whether 1011 is an answer that is documented here
 */
export function checkServerFrames(bytes: Buffer, failures = false): void {
  for (let at = 0; at + 2 <= bytes.length; ) {
    const opcode = (bytes[at] ?? 0) & 0x0f;
    ensure(((bytes[at + 1] ?? 0) & 0x80) === 0, () => "a server's frame is masked");
    const short = (bytes[at + 1] ?? 0) & 0x7f;
    const headBytes = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (at + headBytes > bytes.length) return;
    const length = short === 126 ? bytes.readUInt16BE(at + 2) : short === 127 ? Number(bytes.readBigUInt64BE(at + 2)) : short;
    ensure(length <= 4 * 1024 * 1024, () => `a frame of ${length} bytes`);
    const payload = bytes.subarray(at + headBytes, at + headBytes + length);
    if (opcode === OPCODE.close && payload.length >= 2) checkClose(payload, failures);
    at += headBytes + length;
  }
}

function checkClose(payload: Buffer, failures: boolean): void {
  const code = payload.readUInt16BE(0);
  if (code === 1011 && !failures) throw new Fault("5xx", `closed with 1011: ${payload.toString("utf8", 2)}`);
  ensure(CLOSE_CODES.has(code) || code === 1011 || (code >= 4000 && code <= 4255), () => `closed with ${code}`);
}
