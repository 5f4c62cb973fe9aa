import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { QmpClient } from "../../src/vmm/qemu/qmp.ts";

const GREETING = { QMP: { version: { qemu: { major: 7, minor: 2, micro: 0 } }, capabilities: [] } };

interface Request {
  execute: string;
  arguments: Record<string, unknown>;
}

/** The other side of the protocol: greets, then does what the handler says with each request. */
class TestVmm {
  readonly requests: Request[] = [];
  readonly sockets: Socket[] = [];
  readonly #server: Server;
  onRequest: (request: Request, socket: Socket) => void = (_, socket) => send(socket, { return: {} });

  constructor() {
    this.#server = createServer((socket) => {
      this.sockets.push(socket);
      socket.on("error", () => {});
      let rest = "";
      socket.setEncoding("utf8").on("data", (text: string) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) this.#take(JSON.parse(line) as Request, socket);
      });
      send(socket, GREETING);
    });
  }

  listen(path: string): Promise<void> {
    return new Promise((resolve, reject) => this.#server.once("error", reject).listen(path, resolve));
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }

  #take(request: Request, socket: Socket): void {
    if (request.execute === "qmp_capabilities") {
      send(socket, { return: {} });
      return;
    }
    this.requests.push(request);
    this.onRequest(request, socket);
  }
}

const send = (socket: Socket, message: unknown): void => void socket.write(`${JSON.stringify(message)}\r\n`);

let folder: string;
let path: string;
let vmm: TestVmm;
let client: QmpClient | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "hob-qmp-"));
  path = join(folder, "qmp.sock");
  vmm = new TestVmm();
});
afterEach(async () => {
  client?.close();
  client = undefined;
  vmm.close();
  await rm(folder, { recursive: true, force: true });
});

async function connect(): Promise<QmpClient> {
  await vmm.listen(path);
  client = await QmpClient.connect(path, 5_000);
  return client;
}

describe("a command", () => {
  test("is sent with its arguments and gives what QEMU returns", async () => {
    const qmp = await connect();
    vmm.onRequest = (_, socket) => send(socket, { return: { status: "running" } });
    assert.deepEqual(await qmp.execute("query-status"), { status: "running" });
    await qmp.execute("migrate", { uri: "unix:/x" });
    assert.deepEqual(vmm.requests, [
      { execute: "query-status", arguments: {} },
      { execute: "migrate", arguments: { uri: "unix:/x" } },
    ]);
  });

  test("that QEMU refuses fails with QEMU's own words", async () => {
    const qmp = await connect();
    vmm.onRequest = (_, socket) => send(socket, { error: { class: "GenericError", desc: "State blocked by disk0" } });
    await assert.rejects(qmp.execute("migrate"), { code: "vm_failed", message: "migrate: State blocked by disk0" });
    vmm.onRequest = (_, socket) => send(socket, { return: 1 });
    assert.equal(await qmp.execute("query-status"), 1, "the connection goes on");
  });

  test("that is refused without words fails all the same", async () => {
    const qmp = await connect();
    for (const error of [null, {}, "no"]) {
      vmm.onRequest = (_, socket) => send(socket, { error });
      await assert.rejects(qmp.execute("migrate"), { code: "vm_failed", message: "migrate: it failed" });
    }
  });

  test("gets its own answer when several are under way, between events, in pieces of any size", async () => {
    const qmp = await connect();
    const expected = 20;
    vmm.onRequest = (_, socket) => {
      if (vmm.requests.length < expected) return;
      const answers = vmm.requests.flatMap(({ arguments: { n } }) => [{ event: "STOP", data: {} }, { return: n }]);
      const text = answers.map((answer) => `${JSON.stringify(answer)}\r\n`).join("");
      void writeInPieces(socket, text, 7);
    };
    const results = await Promise.all(Array.from({ length: expected }, (_, n) => qmp.execute("count", { n })));
    assert.deepEqual(
      results,
      Array.from({ length: expected }, (_, n) => n),
    );
  });

  test("that is not answered in time fails, and its late answer is not taken for that of the next", async () => {
    const qmp = await connect();
    vmm.onRequest = () => {};
    await assert.rejects(qmp.execute("slow", {}, 100), { code: "vm_failed", message: "slow: no answer in 100 ms" });
    const next = qmp.execute("next");
    await until(() => vmm.requests.length === 2);
    const [socket] = vmm.sockets;
    for (const answer of ["late", "right"]) send(socket as Socket, { return: answer });
    assert.equal(await next, "right");
  });

  test("under way fails at once when the VMM ends", async () => {
    const qmp = await connect();
    vmm.onRequest = (_, socket) => socket.destroy();
    const start = performance.now();
    await assert.rejects(Promise.all([qmp.execute("stop"), qmp.execute("cont")]), { code: "vm_failed", message: /the VMM has ended$/ });
    assert(performance.now() - start < 2_000);
  });

  test("after the end of the VMM fails, without a wait", { timeout: 10_000 }, async () => {
    const qmp = await connect();
    vmm.onRequest = (_, socket) => socket.destroy();
    await assert.rejects(qmp.execute("stop"));
    const forEver = 2 ** 31 - 1;
    await assert.rejects(qmp.execute("query-status", {}, forEver), { code: "vm_failed", message: "query-status: the VMM has ended" });
  });
});

describe("connecting", () => {
  test("waits for a VMM that has not made its socket yet", async () => {
    const pending = QmpClient.connect(path, 5_000);
    await sleep(100);
    await vmm.listen(path);
    client = await pending;
    assert.deepEqual(await client.execute("query-status"), {});
  });

  test("to nobody, or to one who never greets, fails in time and names the socket", async () => {
    await assert.rejects(QmpClient.connect(path, 100), { code: "vm_failed", message: new RegExp(`${path}: no answer in 100 ms`) });
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(path, resolve));
    const accepted: Socket[] = [];
    silent.on("connection", (socket) => accepted.push(socket));
    await assert.rejects(QmpClient.connect(path, 200), { code: "vm_failed" });
    for (const socket of accepted) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  });
});

async function writeInPieces(socket: Socket, text: string, size: number): Promise<void> {
  for (let at = 0; at < text.length; at += size) {
    socket.write(text.slice(at, at + size));
    if (at % (size * 16) === 0) await sleep(1);
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 5_000; !condition(); await sleep(5)) assert(performance.now() < deadline, "it did not happen");
}
