import type { PortNotification, UrlTicket } from "@hob/protocol/api/ports.ts";
import { connectionError } from "./errors.ts";
import { callJson, type Endpoint } from "./http.ts";
import { dial } from "./web-socket.ts";

const CONNECT_TIMEOUT_MS = 60_000;
const PLAIN_TIMEOUT_MS = 30_000;

export interface PortListener {
  /** once: what is open when the watch begins */
  list?(ports: readonly PortNotification[]): void;
  opened?(port: PortNotification): void;
  closed?(port: PortNotification): void;
}

/** A watch that runs until it is disposed of or the connection breaks. */
export interface PortWatch extends Disposable {
  /** settles when it has ended; rejects when the connection broke */
  readonly ended: Promise<void>;
}

/**
 * Tells which ports of a sprite are open, and each change. Does not keep the sprite awake.
 * @param path of the sprite
 * @throws HobError what the server said, or `cannot_connect` | `connection_lost` | `timeout`
 */
export async function watchPorts(endpoint: Endpoint, path: string, listener: PortListener): Promise<PortWatch> {
  const socket = await dial(endpoint, `${path}/ports/watch`, new URLSearchParams(), CONNECT_TIMEOUT_MS, "watch ports");
  const ended = Promise.withResolvers<void>();
  ended.promise.catch(() => {});
  socket.on("message", (data, isBinary) => {
    if (!isBinary) tell(listener, String(data));
  });
  socket.on("error", (error) => ended.reject(connectionError("watch ports", endpoint.url.origin, error)));
  socket.once("close", () => ended.resolve());
  socket.resume();
  return { ended: ended.promise, [Symbol.dispose]: () => socket.terminate() };
}

/** Frames of a newer server that this client does not know are passed over. */
function tell(listener: PortListener, text: string): void {
  let frame: { type?: string; ports?: PortNotification[] } | null;
  try {
    frame = JSON.parse(text);
  } catch {
    return;
  }
  if (frame?.type === "port_list" && Array.isArray(frame.ports)) listener.list?.(frame.ports);
  else if (frame?.type === "port_opened") listener.opened?.(frame as PortNotification);
  else if (frame?.type === "port_closed") listener.closed?.(frame as PortNotification);
}

/** A link that signs a browser in at the sprite's URL; it works once. @param path of the sprite */
export const createUrlTicket = (endpoint: Endpoint, path: string): Promise<UrlTicket> =>
  callJson(endpoint, "POST", `${path}/url/ticket`, { timeoutMs: PLAIN_TIMEOUT_MS });
