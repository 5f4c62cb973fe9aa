import type { Socket } from "node:net";
import { HobError } from "@hob/protocol";
import { type ByteRange, encodeRange } from "./byte-range.ts";
import { connectHelper, firstAnswer, helperError, nextFrame } from "./connection.ts";
import { encodeFrame, type Frame, type FrameDecoder, ItemWriter } from "./frames.ts";
import { CLIENT_FRAME, COMPARE_FLAG, HELPER_LIMITS, REQUEST, SERVER_FRAME, TAG } from "./wire.ts";

/** An extended attribute that is not the same on both sides, xattr(7); undefined: that side has none. */
export interface AttributeDifference {
  readonly name: string;
  /** the first 8 KiB */
  readonly before: Buffer | undefined;
  readonly after: Buffer | undefined;
}

/** Longest silence of the helper, which tells how far it is: what it reads may come from the object store. */
const SILENCE_MS = 120_000;
const RANGE_BYTES = 16;
const RANGES_PER_FRAME = Math.floor(HELPER_LIMITS.frameBytes / RANGE_BYTES);
const ABSENT = 0xffff;
const ATTRIBUTE_HEADER_BYTES = 5;

/**
 * Compares files in the root namespace, by the helper, which knows of holes, of the places of files on devices, and of extended
 * attributes. One question after the other. The first failure ends it.
 */
export class FileComparison implements Disposable {
  readonly #socket: Socket;
  readonly #decoder: FrameDecoder;

  private constructor(socket: Socket, decoder: FrameDecoder) {
    this.#socket = socket;
    this.#decoder = decoder;
  }

  /** @throws HobError `helper_unreachable` | `helper_failed` | `timeout` */
  static async begin(socketPath: string): Promise<FileComparison> {
    const socket = await connectHelper(socketPath);
    const { frame, decoder } = await firstAnswer(socket, encodeFrame(REQUEST.compare), SILENCE_MS);
    const comparison = new FileComparison(socket, decoder);
    if (frame.type !== SERVER_FRAME.ok) throw comparison.#unexpected(frame.type);
    return comparison;
  }

  /** Ends it at once, also in the middle of a question. */
  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  /** Tells where the two devices differ, once, ascending and apart: what lies elsewhere needs not be read from here on. At any time. */
  tellChanges(ranges: readonly ByteRange[]): void {
    for (let at = 0; at < ranges.length; at += RANGES_PER_FRAME) {
      const part = ranges.slice(at, at + RANGES_PER_FRAME);
      this.#socket.write(encodeFrame(CLIENT_FRAME.changes, Buffer.concat(part.map(encodeRange))));
    }
    // Before this one it could not know whether there are more.
    this.#socket.write(encodeFrame(CLIENT_FRAME.changes));
  }

  /**
   * Whether two regular files have the same bytes.
   * @param onDevices the first lies on the first of the devices that `tellChanges` was about, the second on the second
   * @param onRead told how many bytes of each were read so far, from time to time
   */
  async sameContent(one: Buffer, other: Buffer, onDevices: boolean, onRead: (bytes: number) => void = () => {}): Promise<boolean> {
    const items = paths(one, other).u32(TAG.fileFlags, onDevices ? COMPARE_FLAG.onDevices : 0);
    this.#socket.write(encodeFrame(CLIENT_FRAME.content, items.finish()));
    for (;;) {
      const { type, payload } = await this.#next();
      if (type === SERVER_FRAME.ok && payload.length === 1) return payload[0] === 1;
      if (type !== SERVER_FRAME.progress || payload.length !== 8) throw this.#unexpected(type);
      onRead(Number(payload.readBigUInt64LE(0)));
    }
  }

  /** Attributes that differ, of links themselves too. */
  async attributes(one: Buffer, other: Buffer): Promise<AttributeDifference[]> {
    this.#socket.write(encodeFrame(CLIENT_FRAME.attributes, paths(one, other).finish()));
    const differing: AttributeDifference[] = [];
    for (;;) {
      const { type, payload } = await this.#next();
      if (type === SERVER_FRAME.ok) return differing;
      const difference = type === SERVER_FRAME.attribute ? decodeAttribute(payload) : undefined;
      if (difference === undefined) throw this.#unexpected(type);
      differing.push(difference);
    }
  }

  async #next(): Promise<Frame> {
    const frame = this.#decoder.next() ?? (await nextFrame(this.#socket, this.#decoder, SILENCE_MS));
    if (frame.type === SERVER_FRAME.error) throw helperError(frame.payload);
    return frame;
  }

  #unexpected(type: number): HobError {
    this.#socket.destroy();
    return new HobError("helper_failed", `compare files: unexpected answer of type ${type}`);
  }
}

/** Names are bytes, whatever they are made of. */
const paths = (one: Buffer, other: Buffer): ItemWriter =>
  new ItemWriter().bytes(TAG.path, Buffer.concat([one, Buffer.of(0)])).bytes(TAG.destination, Buffer.concat([other, Buffer.of(0)]));

/** u8 length of the name, u16 lengths of both values, 0xffff for none, name, values. Undefined: it is not whole. */
function decodeAttribute(payload: Buffer): AttributeDifference | undefined {
  if (payload.length < ATTRIBUTE_HEADER_BYTES) return undefined;
  const lengths = [payload.readUInt8(0), payload.readUInt16LE(1), payload.readUInt16LE(3)];
  let at = ATTRIBUTE_HEADER_BYTES;
  const parts = lengths.map((length, index) => {
    if (index > 0 && length === ABSENT) return undefined;
    const part = payload.subarray(at, at + length);
    at += length;
    return part;
  });
  if (at !== payload.length) return undefined;
  const [name, before, after] = parts;
  return { name: name?.toString("utf8") ?? "", before, after };
}
