import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { receiveState, sendState } from "../../src/vmm/qemu/state-stream.ts";
import { temporaryHome } from "../support/test-daemon.ts";

/** Enough to fill the buffers of a socket. */
const STATE = Buffer.alloc(8 * 1024 * 1024, "devices");

test("a device state goes to a VMM as it came from one", async () => {
  await using home = await temporaryHome();
  const [path, file, again] = ["socket", "state", "again"].map((name) => join(home.path, name)) as [string, string, string];
  const first = await receiveState(path, file);
  createConnection(path).end(STATE);
  await first.done;
  first.close();
  assert.deepEqual(await readFile(file), STATE);
  const second = await receiveState(path, again);
  await sendState(file, path);
  await second.done;
  second.close();
  assert.deepEqual(await readFile(again), STATE);
});

test("a VMM that closes the connection before its end has read what it wants; one that does not listen has not", async (context) => {
  await using home = await temporaryHome();
  const [path, file] = [join(home.path, "socket"), join(home.path, "state")];
  await writeFile(file, STATE);
  await assert.rejects(sendState(file, path), { code: "ENOENT" });
  const server = createServer((socket) => socket.once("data", () => socket.destroy())).listen(path);
  context.after(() => server.close());
  await once(server, "listening");
  await sendState(file, path);
  await assert.rejects(sendState(join(home.path, "missing"), path));
});
