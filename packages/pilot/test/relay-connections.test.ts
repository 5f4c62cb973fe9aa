import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer, type IncomingMessage } from "node:http";
import { type AddressInfo, createServer, Socket } from "node:net";
import { test } from "node:test";
import { PILOT_ROUTES, RELAY } from "@hob/protocol";
import { RelayConnections } from "../src/object-store/relay-connections.ts";
import { RelayStore } from "../src/object-store/relay-store.ts";

class Watched extends Socket {
  probes = 0;
  override setKeepAlive(): this {
    this.probes++;
    return this;
  }
  override write(): boolean {
    return true;
  }
}

const upgrade = (start: string): IncomingMessage =>
  ({ url: PILOT_ROUTES.relay, headers: { upgrade: RELAY.upgrade, [RELAY.startHeader]: start } }) as unknown as IncomingMessage;

test("a connection that the host has given up rests without probes that nobody answers, until its start is over", async () => {
  const connections = new RelayConnections();
  const [first, second] = [new Watched(), new Watched()];
  assert.ok(connections.upgrade(upgrade("1"), first) && connections.upgrade(upgrade("2"), second));
  connections.keepOnly("2");
  assert.deepEqual([first.destroyed, second.destroyed, first.probes + second.probes], [true, false, 0]);
  connections.destroy();
  second.destroy();
});

interface Dialled {
  connections: RelayConnections;
  sockets: Socket[];
  /** times that one of them was told to probe the other end */
  probes: number;
}

/** Connections that a host has dialled. It answers each request with its path, once `mayAnswer` has settled. */
async function dialled(count: number, mayAnswer: Promise<unknown>, work: (dialled: Dialled) => Promise<void>): Promise<void> {
  const host = createHttpServer((asked, response) => void mayAnswer.then(() => response.end(asked.url)));
  const listener = createServer((socket) => host.emit("connection", socket)).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const made: Dialled = { connections: new RelayConnections(), sockets: [], probes: 0 };
  try {
    for (let i = 0; i < count; i++) {
      const socket = new Socket().connect((listener.address() as AddressInfo).port, "127.0.0.1");
      made.sockets.push(socket);
      await once(socket, "connect");
      socket.setKeepAlive = () => {
        made.probes++;
        return socket;
      };
      // This host has not asked for an upgrade, and must not get an answer to one.
      socket.write = () => true;
      made.connections.upgrade(upgrade("1"), socket);
      delete (socket as Partial<Socket>).write;
    }
    await work(made);
  } finally {
    made.connections.destroy();
    for (const socket of made.sockets) socket.destroy();
    listener.close();
    host.close();
  }
}

test("nor has it any between two requests, or while it waits for an answer", () =>
  dialled(1, Promise.resolve(), async (made) => {
    const store = new RelayStore(made.connections);
    for (let i = 0; i < 2; i++) assert.equal((await store.get("a"))?.data.toString(), `${RELAY.objects}a`);
    assert.deepEqual([made.probes, made.sockets[0]?.destroyed], [0, false]);
  }));

test("more requests at once than there are connections take turns: none waits for a connection that nobody dials", () => {
  const all = Promise.withResolvers<void>();
  return dialled(RELAY.connections, all.promise, async ({ connections }) => {
    const store = new RelayStore(connections);
    const answers = Array.from({ length: 3 * RELAY.connections }, (_, i) => store.get(String(i)));
    const unwanted = new AbortController();
    const aborted = assert.rejects(store.get("late", { signal: unwanted.signal }), /not wanted/);
    unwanted.abort(new Error("not wanted"));
    // It does not wait for those that have a connection.
    await aborted;
    all.resolve();
    assert.equal(new Set((await Promise.all(answers)).map((answer) => answer?.data.toString())).size, answers.length);
  });
});
