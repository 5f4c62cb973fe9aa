import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { LIMITS, SPRITE_VERSION } from "@hob/protocol";
import { type WebSocket, WebSocketServer } from "ws";
import type { Activity } from "../activity/activity.ts";
import { type Endpoint, relativeTarget } from "../api/endpoint.ts";
import type { InsideDialer } from "./dialer.ts";
import type { PortFeed } from "./port-feed.ts";
import { ProxyConnection } from "./proxy.ts";
import { servePortWatch } from "./watch.ts";

export interface PortsParts {
  readonly feed: PortFeed;
  readonly dialer: InsideDialer;
  readonly activity: Pick<Activity, "hold">;
}

/** `GET …/ports/watch` and `GET …/proxy`, both upgraded to WebSockets. */
export class PortsEndpoint implements Endpoint {
  readonly #parts: PortsParts;
  readonly #webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: LIMITS.webSocketMessageBytes });

  constructor(parts: PortsParts) {
    this.#parts = parts;
    this.#webSockets.on("headers", (headers) => headers.push(`Sprite-Version: ${SPRITE_VERSION}`));
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const path = relativeTarget(request)?.path;
    if (path === "/ports/watch") this.#accept(request, socket, head, (client) => servePortWatch(client, this.#parts.feed));
    else if (path === "/proxy") this.#accept(request, socket, head, (client) => this.#proxy(client));
    else return false;
    return true;
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer, serve: (client: WebSocket) => void): void {
    this.#webSockets.handleUpgrade(request, socket, head, serve);
  }

  #proxy(client: WebSocket): void {
    const hold = this.#parts.activity.hold("proxy", "a proxied connection");
    client.once("close", () => hold[Symbol.dispose]());
    new ProxyConnection(client, this.#parts.dialer);
  }
}
