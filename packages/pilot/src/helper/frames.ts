import { HobError } from "@hob/protocol";
import { FRAME_HEADER_BYTES, HELPER_LIMITS } from "./wire.ts";

/** One frame: u32 little-endian payload length, u8 type, payload. */
export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

/** @throws HobError `invalid_request` if the payload is longer than a request may be */
export function encodeFrame(type: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  if (payload.length > HELPER_LIMITS.requestBytes) {
    throw new HobError(
      "invalid_request",
      `encode helper frame: ${payload.length} bytes, at most ${HELPER_LIMITS.requestBytes} are possible`,
      {
        hint: "pass fewer or shorter arguments and environment variables",
      },
    );
  }
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame.writeUInt8(type, 4);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** Cuts a byte stream into frames. Payloads are views of the chunks given, or copies where a frame spans chunks. */
export class FrameDecoder {
  #rest: Buffer = Buffer.alloc(0);
  readonly #payloadBytesMax: number;

  constructor(payloadBytesMax: number = HELPER_LIMITS.frameBytes) {
    this.#payloadBytesMax = payloadBytesMax;
  }

  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
  }

  /**
   * The next complete frame, or undefined until more bytes have come.
   * @throws HobError `helper_failed` if the stream is not one of frames
   */
  next(): Frame | undefined {
    if (this.#rest.length < FRAME_HEADER_BYTES) return undefined;
    const length = this.#rest.readUInt32LE(0);
    if (length > this.#payloadBytesMax) throw new HobError("helper_failed", `decode helper frame: a payload of ${length} bytes`);
    const end = FRAME_HEADER_BYTES + length;
    if (this.#rest.length < end) return undefined;
    const frame = { type: this.#rest.readUInt8(4), payload: this.#rest.subarray(FRAME_HEADER_BYTES, end) };
    this.#rest = this.#rest.subarray(end);
    return frame;
  }

  /** What has come after the last frame, for a stream that goes on without frames. */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest;
  }
}

/** Bytes of one tag-length-value item after the other: u8 tag, u32 little-endian length, value. */
export class ItemWriter {
  readonly #parts: Buffer[] = [];

  bytes(tag: number, value: Uint8Array): this {
    const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
    header.writeUInt8(tag, 0);
    header.writeUInt32LE(value.length, 1);
    this.#parts.push(header, Buffer.from(value.buffer, value.byteOffset, value.length));
    return this;
  }

  /**
   * UTF-8 with a terminating 0 byte.
   * @throws HobError `invalid_request` if the text itself contains one: no argument, path or variable can
   */
  text(tag: number, value: string): this {
    if (value.includes("\0")) throw new HobError("invalid_request", "encode helper request: a string contains a NUL character");
    return this.bytes(tag, Buffer.from(`${value}\0`, "utf8"));
  }

  u8(tag: number, value: number): this {
    return this.bytes(tag, Uint8Array.of(value));
  }

  u32(tag: number, value: number): this {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32LE(value, 0);
    return this.bytes(tag, bytes);
  }

  u64(tag: number, value: number | bigint): this {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigUInt64LE(BigInt(value), 0);
    return this.bytes(tag, bytes);
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export interface Item {
  readonly tag: number;
  readonly value: Buffer;
}

/** The inverse of {@link ItemWriter}. @throws HobError `invalid_request` on a truncated item */
export function decodeItems(payload: Buffer): Item[] {
  const items: Item[] = [];
  for (let at = 0; at < payload.length; ) {
    const end =
      at + FRAME_HEADER_BYTES <= payload.length ? at + FRAME_HEADER_BYTES + payload.readUInt32LE(at + 1) : Number.POSITIVE_INFINITY;
    if (end > payload.length) throw new HobError("invalid_request", "decode helper request: a truncated item");
    items.push({ tag: payload.readUInt8(at), value: payload.subarray(at + FRAME_HEADER_BYTES, end) });
    at = end;
  }
  return items;
}
