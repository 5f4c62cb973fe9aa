import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { Refuser } from "../../src/network/refuser.ts";

/**
 * A process of network-policy.test.ts in one of its network namespaces: does what a line of JSON on standard input asks
 * for, and answers with a line.
 */
interface Ask {
  id: number;
  op: "resolve" | "tcp" | "udp" | "open" | "say" | "serve" | "refuse";
  server?: string;
  name?: string;
  type?: "A" | "AAAA" | "CNAME" | "TXT";
  address?: string;
  port?: number;
  ports?: number[];
  /** for UDP: an answer comes from the address that was asked only if the server is bound to it */
  addresses?: string[];
  waitMs?: number;
  /** address to send from */
  from?: string;
  connection?: number;
}

const WAIT_MS = 10_000;
const connections: Socket[] = [];

const OPERATIONS: Record<Ask["op"], (ask: Ask) => Promise<unknown>> = {
  async resolve({ server = "", name = "", type = "A", waitMs = WAIT_MS, from }) {
    const resolver = new Resolver({ timeout: waitMs, tries: 1 });
    resolver.setServers([server]);
    if (from !== undefined) resolver.setLocalAddress(from);
    return resolver.resolve(name, type);
  },
  tcp: async ({ address = "", port = 0, waitMs }) => {
    const socket = await opened(address, port, waitMs);
    const greeting = await heard(socket);
    socket.destroy();
    return greeting;
  },
  udp: ({ address = "", port = 0 }) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("ETIMEOUT")), WAIT_MS);
      socket.on("error", reject);
      socket.on("message", (message) => resolve(message.toString()));
      // Connected, so that the kernel tells of what comes back by ICMP.
      socket.connect(port, address, () => socket.send("?"));
      socket.once("close", () => clearTimeout(late));
    }).finally(() => socket.close());
  },
  async open({ address = "", port = 0 }) {
    const socket = await opened(address, port);
    await heard(socket);
    return connections.push(socket) - 1;
  },
  async say({ connection = 0 }) {
    const socket = connections[connection] as Socket;
    socket.write("?");
    return heard(socket);
  },
  /** Servers that greet and answer. */
  async serve({ ports = [], addresses = [] }) {
    for (const port of ports) {
      const tcp = createServer((socket) => {
        socket.on("error", () => {});
        socket.write(`tcp ${socket.localAddress}`);
        socket.on("data", () => socket.write(`again ${socket.localAddress}`));
      });
      await new Promise<void>((resolve) => tcp.listen(port, "::", resolve));
      for (const address of addresses) {
        const udp = createSocket(address.includes(":") ? "udp6" : "udp4", (_message, from) => udp.send("udp", from.port, from.address));
        await new Promise<void>((resolve) => udp.bind(port, address, resolve));
      }
    }
    return "serving";
  },
  async refuse() {
    await new Refuser().start();
    return "refusing";
  },
};

function opened(address: string, port: number, waitMs = WAIT_MS): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port });
    socket.setTimeout(waitMs, () => socket.destroy(new Error("ETIMEOUT")));
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject).on("error", () => {});
      resolve(socket);
    });
  });
}

function heard(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error("closed"));
    socket.once("close", gone);
    if (socket.destroyed) gone();
    socket.once("data", (data) => {
      socket.off("close", gone);
      resolve(data.toString());
    });
  });
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const ask = JSON.parse(line) as Ask;
  OPERATIONS[ask.op](ask).then(
    (result) => process.stdout.write(`${JSON.stringify({ id: ask.id, result })}\n`),
    (error: NodeJS.ErrnoException) => process.stdout.write(`${JSON.stringify({ id: ask.id, error: error.code ?? error.message })}\n`),
  );
});
process.stdin.on("end", () => process.exit(0));
