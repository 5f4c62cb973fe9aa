import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { PILOT_ROUTES, SPRITE_VERSION, TUNNEL_PROTOCOL, toHobError } from "@hob/protocol";
import type { Activity } from "../activity/activity.ts";
import type { Endpoint } from "../api/endpoint.ts";
import { refuseUpgrade } from "../api/refuse.ts";
import type { HttpTarget } from "./http-target.ts";

export interface IngressParts {
  readonly target: Pick<HttpTarget, "connect">;
  readonly activity: Pick<Activity, "hold">;
}

/**
 * The way from the sprite's URL to what answers it: an upgrade that becomes a TCP connection inside the sprite. The host
 * speaks HTTP through it; here only bytes are moved, since this process runs without a compiler.
 */
export class IngressEndpoint implements Endpoint {
  readonly #parts: IngressParts;

  constructor(parts: IngressParts) {
    this.#parts = parts;
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    if (request.url !== PILOT_ROUTES.ingress) return false;
    this.#open(socket, head).catch((error) => refuseUpgrade(socket, toHobError(error)));
    return true;
  }

  async #open(client: Duplex, head: Buffer): Promise<void> {
    // Tells the host that the request has arrived: what follows may take as long as a service takes to start.
    client.write("HTTP/1.1 102 Processing\r\n\r\n");
    const hold = this.#parts.activity.hold("url", "a connection to the sprite's URL");
    try {
      const { socket } = await this.#parts.target.connect();
      if (client.destroyed) return void socket.destroy();
      socket.once("close", () => hold[Symbol.dispose]());
      client.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${TUNNEL_PROTOCOL}\r\nSprite-Version: ${SPRITE_VERSION}\r\n\r\n`,
      );
      if (head.length > 0) socket.write(head);
      join(client, socket);
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }
}

/** Each direction ends by itself; when one breaks, so does the other. */
function join(client: Duplex, socket: Socket): void {
  const onEnd = (error?: Error | null) => {
    if (!error) return;
    client.destroy();
    socket.destroy();
  };
  pipeline(client, socket, onEnd);
  pipeline(socket, client, onEnd);
}
