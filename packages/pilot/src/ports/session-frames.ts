import type { WebSocket } from "ws";
import { notification, type OpenPort } from "./open-ports.ts";
import type { PortFeed } from "./port-feed.ts";

/**
 * Tells the client of a terminal session which ports are opened and closed while it is there, by text frames. Clients of
 * sessions without a terminal may take a text frame for output, so they are told nothing.
 */
export function tellPorts(feed: Pick<PortFeed, "subscribe">, socket: WebSocket): void {
  const send = (type: "port_opened" | "port_closed") => (port: OpenPort) => {
    if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(notification(type, port)));
  };
  const unsubscribe = feed.subscribe({ list() {}, opened: send("port_opened"), closed: send("port_closed") });
  socket.once("close", unsubscribe);
}
