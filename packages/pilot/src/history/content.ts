import { constants } from "node:fs";
import { open, readlink } from "node:fs/promises";

const CHUNK_BYTES = 256 * 1024;
/** Only regular files are opened, found as such on a tree that does not change; never a link. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

export async function sameLink(one: Buffer, other: Buffer): Promise<boolean> {
  const [text, otherText] = await Promise.all([readlink(one, "buffer"), readlink(other, "buffer")]);
  return text.equals(otherText);
}

/** Whether two regular files of the same length have the same bytes. */
export async function sameContent(one: Buffer, other: Buffer): Promise<boolean> {
  await using file = await open(one, FLAGS);
  await using otherFile = await open(other, FLAGS);
  const [chunk, otherChunk] = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
  for (let at = 0; ; ) {
    const [{ bytesRead }, { bytesRead: otherRead }] = await Promise.all([
      file.read(chunk, 0, CHUNK_BYTES, at),
      otherFile.read(otherChunk, 0, CHUNK_BYTES, at),
    ]);
    if (bytesRead !== otherRead || !chunk.subarray(0, bytesRead).equals(otherChunk.subarray(0, otherRead))) return false;
    if (bytesRead === 0) return true;
    at += bytesRead;
  }
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
