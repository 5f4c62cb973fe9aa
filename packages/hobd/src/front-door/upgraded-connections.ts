import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { bareResponse } from "./bare-response.ts";

/** Connections that have asked for an upgrade, for as long as they are open. */
export class UpgradedConnections {
  readonly #open = new Set<Duplex>();

  get count(): number {
    return this.#open.size;
  }

  /** Takes the bare socket of a request for an upgrade. @returns for every answer that is not 101 */
  add(request: IncomingMessage, socket: Duplex): ServerResponse {
    socket.on("error", () => socket.destroy());
    this.#open.add(socket);
    socket.once("close", () => this.#open.delete(socket));
    return bareResponse(request, socket);
  }

  /** Cuts all of them. */
  close(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
