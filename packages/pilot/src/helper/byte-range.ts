/** A run of bytes of a device. */
export interface ByteRange {
  readonly begin: number;
  readonly length: number;
}

/** As the helper's protocol has it: u64 first byte, u64 bytes. */
export function encodeRange({ begin, length }: ByteRange): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  bytes.writeBigUInt64LE(BigInt(begin), 0);
  bytes.writeBigUInt64LE(BigInt(length), 8);
  return bytes;
}
