import { open, stat } from "node:fs/promises";

/** What the pilot writes to the console when it begins to listen, `packages/pilot/src/main.ts`. */
const ANNOUNCEMENT = "pilot listens";
const POLL_MS = 50;
/** After this long it is asked even so: the console is only a hint. */
const PATIENCE_MS = 60_000;
/** A guest may write to its console as much as it likes; the announcement comes early. */
const READ_BYTES_MAX = 1024 * 1024;

/** Where the console of a VM ends before it boots. */
export const consoleEnd = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );

/**
 * Waits until a booting pilot says on the console that it listens. A connection to a guest that does not answer yet
 * would cost the boot half of its time: passt of Debian 12 spins on it when the caller gives up.
 *
 * @param from end of the console before the boot, bytes
 */
export async function pilotAnnounced(path: string, from: number, alive: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (alive() && performance.now() < deadline && !(await readFrom(path, from)).includes(ANNOUNCEMENT)) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function readFrom(path: string, from: number): Promise<Buffer> {
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return Buffer.alloc(0);
  try {
    const size = Math.min(READ_BYTES_MAX, Math.max(0, (await file.stat()).size - from));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, from);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
