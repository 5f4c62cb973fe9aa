import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { REFUSER } from "./resolver-config.ts";

const HEADER_BYTES = 12;
const RCODE_REFUSED = 5;
const IDLE_MS = 5_000;

/** The answer REFUSED to a DNS query (RFC 1035 section 4.1.1); undefined for what is not a query. */
export function refuse(query: Buffer): Buffer | undefined {
  if (query.length < HEADER_BYTES) return undefined;
  const [flags = 0, codes = 0] = [query[2], query[3]];
  if ((flags & 0x80) !== 0) return undefined;
  const answer = Buffer.from(query);
  answer[2] = flags | 0x80;
  answer[3] = (codes & 0xf0) | RCODE_REFUSED;
  return answer;
}

/**
 * A DNS server on the loopback address that refuses everything. dnsmasq has no rule that refuses a name; it can only be
 * told to ask somebody who does. Only dnsmasq reaches it: the loopback address is none that a sprite has a way to.
 */
export class Refuser {
  #udp: UdpSocket | undefined;
  #tcp: Server | undefined;

  async start({ address, port }: { address: string; port: number } = REFUSER): Promise<void> {
    if (this.#udp !== undefined) return;
    const udp = createSocket("udp4", (query, from) => {
      const answer = refuse(query);
      if (answer !== undefined) udp.send(answer, from.port, from.address, () => {});
    });
    const tcp = createServer(serve);
    try {
      udp.bind(port, address);
      await once(udp, "listening");
      tcp.listen(udp.address().port, address);
      await once(tcp, "listening");
    } catch (error) {
      udp.close();
      tcp.close();
      throw error;
    }
    for (const server of [udp, tcp]) server.on("error", () => {}).unref();
    [this.#udp, this.#tcp] = [udp, tcp];
  }

  get port(): number {
    return this.#udp?.address().port ?? 0;
  }

  stop(): void {
    this.#udp?.close();
    this.#tcp?.close();
    this.#udp = this.#tcp = undefined;
  }
}

/** Over TCP a message has its length before it, two bytes; RFC 1035 section 4.2.2. */
function serve(socket: Socket): void {
  let pending: Buffer = Buffer.alloc(0);
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 2) {
      const end = 2 + pending.readUInt16BE(0);
      if (pending.length < end) return;
      const answer = refuse(pending.subarray(2, end));
      if (answer === undefined) return void socket.destroy();
      socket.write(Buffer.concat([pending.subarray(0, 2), answer]));
      pending = pending.subarray(end);
    }
  });
}
