import { once } from "node:events";
import { request } from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import type { PilotEndpoint } from "@hob/hobd";
import { PILOT_ROUTES, TUNNEL_PROTOCOL } from "@hob/protocol";
import type { BenchContext } from "../part.ts";

/** A port of this machine; each connection to it becomes one to the web server in a sprite, with nothing in between but bytes. */
export class TunnelPort {
  readonly port: number;

  private constructor(server: Server) {
    this.port = (server.address() as AddressInfo).port;
  }

  static async start(context: BenchContext, pilot: PilotEndpoint): Promise<TunnelPort> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.once("close", () => sockets.delete(socket));
      socket.on("error", () => socket.destroy());
      join(socket, pilot);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    context.defer(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return new TunnelPort(server);
  }
}

function join(client: Socket, { host, port, token }: PilotEndpoint): void {
  const headers = { authorization: `Bearer ${token}`, connection: "Upgrade", upgrade: TUNNEL_PROTOCOL };
  const outgoing = request({ host, port, path: PILOT_ROUTES.ingress, agent: false, headers });
  outgoing.once("upgrade", (_response, tunnel: Socket) => {
    tunnel.setNoDelay(true);
    void Promise.all([pipeline(client, tunnel), pipeline(tunnel, client)]).catch(() => {});
  });
  outgoing.once("response", () => client.destroy());
  outgoing.once("error", () => client.destroy());
  outgoing.end();
}
