/**
 * Transmission phase of the NBD protocol, as the kernel's client speaks it, all numbers big endian:
 * https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, "Simple reply message".
 */
export const REQUEST_BYTES = 28;
export const REPLY_BYTES = 16;
const REQUEST_MAGIC = 0x2560_9513;
const REPLY_MAGIC = 0x6744_6698;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3 } as const;

/** Values of the error field that are used here; the protocol has its own numbers, equal to Linux's. */
export const NBD_ERROR = { none: 0, notPermitted: 1, io: 5, invalid: 22 } as const;

export interface NbdRequest {
  readonly command: number;
  /** opaque to the server; returned with the reply */
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

/** @returns undefined if the 28 bytes are no request, or name a place beyond what a number holds exactly */
export function decodeRequest(bytes: Buffer): NbdRequest | undefined {
  if (bytes.readUInt32BE(0) !== REQUEST_MAGIC) return undefined;
  const offset = bytes.readBigUInt64BE(16);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return { command: bytes.readUInt16BE(6), cookie: bytes.readBigUInt64BE(8), offset: Number(offset), length: bytes.readUInt32BE(24) };
}

export function encodeReply(cookie: bigint, error: number): Buffer {
  const reply = Buffer.allocUnsafe(REPLY_BYTES);
  reply.writeUInt32BE(REPLY_MAGIC, 0);
  reply.writeUInt32BE(error, 4);
  reply.writeBigUInt64BE(cookie, 8);
  return reply;
}
