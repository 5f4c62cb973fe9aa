import { constants } from "node:fs";
import { open, readlink } from "node:fs/promises";

/** Only regular files are opened, found as such on a tree that does not change; never a link. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

export async function sameLink(one: Buffer, other: Buffer): Promise<boolean> {
  const [text, otherText] = await Promise.all([readlink(one, "buffer"), readlink(other, "buffer")]);
  return text.equals(otherText);
}

/** A file's text; undefined if it is larger than `bytesMax` or is no text. */
export async function readText(path: Buffer, bytesMax: number): Promise<string | undefined> {
  await using file = await open(path, FLAGS);
  const { size } = await file.stat();
  if (size > bytesMax) return undefined;
  const content = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await file.read(content, at, size - at, at);
    if (bytesRead === 0) return undefined;
    at += bytesRead;
  }
  if (content.includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    return undefined;
  }
}
