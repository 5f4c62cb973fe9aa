import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { receiveState, sendState } from "../../src/vmm/qemu/state-stream.ts";
import { temporaryHome } from "../support/test-daemon.ts";

/** Enough to fill the buffers of a socket. */
const STATE = Buffer.alloc(8 * 1024 * 1024, "devices");

const BOUND_MS = 10_000;

test("a device state goes to a VMM as it came from one", async () => {
  await using home = await temporaryHome();
  const [path, file, again] = ["socket", "state", "again"].map((name) => join(home.path, name)) as [string, string, string];
  {
    await using first = await receiveState(path, file);
    createConnection(path).end(STATE);
    await first.received(BOUND_MS);
  }
  assert.deepEqual(await readFile(file), STATE);
  await using second = await receiveState(path, again);
  await sendState(file, path, BOUND_MS);
  await second.received(BOUND_MS);
  assert.deepEqual(await readFile(again), STATE);
});

test("a VMM that closes the connection before its end has read what it wants; one that does not listen has not", async (context) => {
  await using home = await temporaryHome();
  const [path, file] = [join(home.path, "socket"), join(home.path, "state")];
  await writeFile(file, STATE);
  await assert.rejects(sendState(file, path, BOUND_MS), { code: "ENOENT" });
  const server = createServer((socket) => socket.once("data", () => socket.destroy())).listen(path);
  context.after(() => server.close());
  await once(server, "listening");
  await sendState(file, path, BOUND_MS);
  await assert.rejects(sendState(join(home.path, "missing"), path, BOUND_MS));
});

test("a device state that does not end, or that nobody reads, is given up: no connection and no socket stay", async (context) => {
  await using home = await temporaryHome();
  const [path, file] = [join(home.path, "socket"), join(home.path, "state")];
  const receiver = await receiveState(path, file);
  const [vmm, other] = [createConnection(path), createConnection(path)];
  for (const socket of [vmm, other]) socket.on("error", () => {});
  const ended = [once(vmm, "close"), once(other, "close")];
  vmm.write("devices");
  await assert.rejects(receiver.received(20), { code: "timeout" });
  await receiver[Symbol.asyncDispose]();
  await Promise.all(ended);
  assert.deepEqual(
    (await readdir(home.path)).filter((name) => name !== "state"),
    [],
  );

  await writeFile(file, STATE);
  const server = createServer((socket) => socket.pause().on("error", () => {})).listen(path);
  context.after(() => server.close());
  await once(server, "listening");
  const taken = once(server, "connection");
  await assert.rejects(sendState(file, path, 20), { code: "timeout" });
  const [socket] = await taken;
  const closed = once(socket, "close");
  socket.resume();
  await closed;
});
