import { createReadStream, createWriteStream } from "node:fs";
import { chmod, rm } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { pipeline } from "node:stream/promises";
import { HobError } from "@hob/protocol";
import type { QmpClient } from "./qmp.ts";

/** How it looks here when the other side has closed first. */
const CLOSED_BY_PEER: ReadonlySet<string | undefined> = new Set(["ERR_STREAM_PREMATURE_CLOSE", "EPIPE", "ECONNRESET"]);

/**
 * Feeds a VMM the device state that it waits for on this socket. QEMU closes the connection when it has read the mark at
 * the end of the state, and on a busy machine that is before this process has come to end it: a connection that QEMU has
 * closed says nothing. Whether the state was loaded is for QEMU to say, which ends when it was not.
 *
 * @throws when the file cannot be read, or nobody listens
 */
export async function sendState(stateFile: string, socket: string): Promise<void> {
  try {
    await pipeline(createReadStream(stateFile), createConnection(socket));
  } catch (error) {
    if (!CLOSED_BY_PEER.has((error as NodeJS.ErrnoException).code)) throw error;
  }
}

/** A unix socket that takes one connection and writes what it carries to a file, synced. */
export async function receiveState(path: string, file: string): Promise<{ path: string; done: Promise<void>; close: () => void }> {
  await rm(path, { force: true });
  const server = createServer();
  const done = new Promise<void>((resolve, reject) => {
    server.once("connection", (socket) => pipeline(socket, createWriteStream(file, { mode: 0o600, flush: true })).then(resolve, reject));
  });
  done.catch(() => {});
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  await chmod(path, 0o666);
  return { path, done, close: () => server.close() };
}

export async function waitForStatus(qmp: QmpClient, done: (status: string) => boolean, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { status } = (await qmp.execute("query-status")) as { status: string };
    if (done(status)) return;
    if (performance.now() > deadline) throw new HobError("timeout", `load the saved state: still ${status} after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

export async function waitForMigration(qmp: QmpClient, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { status, "error-desc": error } = (await qmp.execute("query-migrate")) as { status: string; "error-desc"?: string };
    if (status === "completed") return;
    if (status === "failed" || status === "cancelled") throw new HobError("vm_failed", `save the state: ${error ?? status}`);
    if (performance.now() > deadline) throw new HobError("timeout", `save the state: still ${status} after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
