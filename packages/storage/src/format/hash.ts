import { hash } from "node:crypto";

export const HASH_BYTES = 32;

/** SHA-256 as 64 hexadecimal digits in lower case. */
export const sha256 = (data: Uint8Array): string => hash("sha256", data);

export const isHash = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);
