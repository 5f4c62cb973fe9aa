import { once } from "node:events";
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
 * @throws HobError `timeout`; when the file cannot be read, or nobody listens
 */
export async function sendState(stateFile: string, socket: string, timeoutMs: number): Promise<void> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    await pipeline(createReadStream(stateFile), createConnection(socket), { signal });
  } catch (error) {
    if (signal.aborted) throw new HobError("timeout", `load the saved state: it was not taken in ${timeoutMs} ms`);
    if (!CLOSED_BY_PEER.has((error as NodeJS.ErrnoException).code)) throw error;
  }
}

/** A device state on its way to a file. */
export interface StateReceiver extends AsyncDisposable {
  /** where one connection is taken */
  readonly path: string;
  /** Resolves when the connection has ended, and all that it carried is in the file, synced. @throws HobError `timeout` */
  received(timeoutMs: number): Promise<void>;
  /** Ends the connection too, whatever it still carries: whoever writes is told, and nothing is written to the file any more. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A unix socket that takes one connection and writes what it carries to a file. */
export async function receiveState(path: string, file: string): Promise<StateReceiver> {
  await rm(path, { force: true });
  const server = createServer();
  const over = new AbortController();
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  done.catch(() => {});
  const closed: Promise<unknown>[] = [once(server, "close")];
  server.on("connection", (socket) => {
    if (closed.length > 1) return void socket.destroy();
    const output = createWriteStream(file, { mode: 0o600, flush: true });
    closed.push(new Promise<void>((ended) => output.once("close", () => ended())));
    pipeline(socket, output, { signal: over.signal }).then(resolve, reject);
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  await chmod(path, 0o666);
  return {
    path,
    received: async (timeoutMs) => {
      const timer = setTimeout(() => reject(new HobError("timeout", `save the state: its end did not come in ${timeoutMs} ms`)), timeoutMs);
      await done.finally(() => clearTimeout(timer));
    },
    [Symbol.asyncDispose]: async () => {
      over.abort();
      server.close();
      await Promise.all(closed);
    },
  };
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

/** Of query-migrate, qapi/migration.json: nothing goes on any more, or has begun. */
const OVER: ReadonlySet<string | undefined> = new Set([undefined, "none", "completed", "failed", "cancelled"]);

/**
 * Gives a migration up, and waits until it is over: one that went on would stop a VM that was let go on meanwhile. It may have
 * completed before; the VM can go on from that as well.
 */
export async function cancelMigration(qmp: QmpClient, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  await qmp.execute("migrate_cancel");
  for (;;) {
    const { status } = (await qmp.execute("query-migrate")) as { status?: string };
    if (OVER.has(status)) return;
    if (performance.now() > deadline) throw new HobError("timeout", `give up the save of the state: still ${status} after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
