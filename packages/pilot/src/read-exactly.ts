import type { FileHandle } from "node:fs/promises";
import { HobError } from "@hob/protocol";

type Readable = Pick<FileHandle, "read">;

/**
 * As many bytes as there must be: read(2) may return fewer without being at an end, and what is missing is no zeros.
 * @throws HobError `volume_unusable` where the file or device ends before, and what read(2) fails with
 */
export async function readExactly(file: Readable, offset: number, length: number): Promise<Buffer> {
  const data = Buffer.allocUnsafe(length);
  await fillExactly(file, offset, data);
  return data;
}

/** As `readExactly`, into memory that is there. */
export async function fillExactly(file: Readable, offset: number, data: Uint8Array): Promise<void> {
  const { length } = data;
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(data, done, length - done, offset + done);
    if (bytesRead === 0) throw new HobError("volume_unusable", `read ${length} bytes at ${offset}: it ends after ${done} of them`);
    done += bytesRead;
  }
}
