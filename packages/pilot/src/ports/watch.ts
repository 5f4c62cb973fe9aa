import type { PortListFrame } from "@hob/protocol";
import type { WebSocket } from "ws";
import { notification, type OpenPort } from "./open-ports.ts";
import type { PortFeed } from "./port-feed.ts";

/** A client that has not answered the last ping by the next one is gone. */
const PING_INTERVAL_MS = 30_000;
/** Unsent bytes of a client that does not read; it can ask anew. */
const QUEUED_BYTES_MAX = 1024 * 1024;

/** Serves one watcher until it goes. It does not keep the sprite awake. */
export function servePortWatch(socket: WebSocket, feed: PortFeed): void {
  const send = (frame: object) => {
    socket.send(JSON.stringify(frame));
    if (socket.bufferedAmount > QUEUED_BYTES_MAX) socket.terminate();
  };
  const unsubscribe = feed.subscribe({
    list(ports: readonly OpenPort[]) {
      const frame: PortListFrame = { type: "port_list", ports: ports.map((port) => notification("port_opened", port)) };
      send(frame);
    },
    opened: (port) => send(notification("port_opened", port)),
    closed: (port) => send(notification("port_closed", port)),
  });
  let alive = true;
  const pinger = setInterval(() => {
    if (!alive) return socket.terminate();
    alive = false;
    socket.ping();
  }, PING_INTERVAL_MS);
  socket.on("pong", () => {
    alive = true;
  });
  socket.on("error", () => socket.terminate());
  socket.once("close", () => {
    clearInterval(pinger);
    unsubscribe();
  });
}
