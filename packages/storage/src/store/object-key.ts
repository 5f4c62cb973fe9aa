import { HobError } from "@hob/protocol";
import { MAX_OBJECT_BYTES } from "../format/limits.ts";
import type { ByteRange, GetOptions, ListOptions } from "./object-store.ts";

const PART = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const MAX_KEY_BYTES = 512;

/** Whether this can be a key: parts of letters, digits, `.`, `_`, `-`, none of which begins with a dot, joined by `/`. */
export const isObjectKey = (key: string): boolean =>
  key.length > 0 && key.length <= MAX_KEY_BYTES && key.split("/").every((part) => PART.test(part));

/** @throws HobError `invalid_request` */
export function checkKey(key: string): void {
  if (!isObjectKey(key)) throw new HobError("invalid_request", `${JSON.stringify(key.slice(0, 100))} cannot be a key of the object store`);
}

/** A prefix is empty or the beginning of a key, which may end with `/`. @throws HobError `invalid_request` */
export function checkPrefix(prefix: string): void {
  if (prefix !== "" && !isObjectKey(prefix.endsWith("/") ? prefix.slice(0, -1) : prefix))
    throw new HobError("invalid_request", `${JSON.stringify(prefix.slice(0, 100))} cannot be a prefix of keys`);
}

/** The checked options of a `get`. @throws HobError `invalid_request` */
export function checkGet(options: GetOptions): { range: ByteRange | undefined; maxBytes: number } {
  const { range, maxBytes = MAX_OBJECT_BYTES } = options;
  if (
    range !== undefined &&
    !(Number.isSafeInteger(range.offset) && range.offset >= 0 && Number.isSafeInteger(range.length) && range.length >= 1)
  )
    throw new HobError("invalid_request", `cannot read bytes from ${range.offset}, ${range.length} long`);
  return { range, maxBytes };
}

/** @throws HobError `payload_too_large` */
export function checkSize(key: string, sizeBytes: number, maxBytes: number): void {
  if (sizeBytes > maxBytes) throw new HobError("payload_too_large", `object ${key} is too large: ${sizeBytes} bytes, at most ${maxBytes}`);
}

/** @throws HobError `invalid_request` */
export function checkListLimit({ limit = 1000 }: ListOptions): number {
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000) throw new HobError("invalid_request", `cannot list ${limit} objects at once`);
  return limit;
}
