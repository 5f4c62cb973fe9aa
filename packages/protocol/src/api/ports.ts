import { z } from "zod";
import type { RouteDescription } from "./route.ts";

/** One TCP port inside the sprite that something listens on. */
export const portNotification = z.object({
  type: z.enum(["port_opened", "port_closed"]),
  port: z.number().int().min(1).max(65_535),
  /** address that is listened on: `127.0.0.1`, `0.0.0.0`, `::`, … */
  address: z.string(),
  /** process id inside the sprite; 0 when it is not known */
  pid: z.number().int().min(0),
});
export type PortNotification = z.infer<typeof portNotification>;

/** First frame of `ports/watch`. */
export interface PortListFrame {
  type: "port_list";
  ports: PortNotification[];
}

/** First frame of a client of `proxy`. */
export const proxyRequest = z.object({
  /** a name or address as the sprite itself would use it */
  host: z.string().min(1).max(253).default("localhost"),
  port: z.number().int().min(1).max(65_535),
  /** Hob's own: the end of a direction is sent as the text frame `{"type":"eof"}`, and the other direction goes on */
  half_close: z.boolean().default(false),
});
export type ProxyRequest = z.input<typeof proxyRequest>;

/** Answer to it; binary frames follow `connected`, a close anything else. */
export const proxyAnswer = z.union([
  z.object({ status: z.literal("connected"), target: z.string() }),
  z.object({ status: z.literal("error"), error: z.string(), message: z.string() }),
]);
export type ProxyAnswer = z.infer<typeof proxyAnswer>;

/** With `half_close`: nothing more comes from this side. */
export const EOF_FRAME = '{"type":"eof"}';

export const urlTicket = z.object({
  /** opens the sprite's URL in a browser and signs it in; works once */
  url: z.string(),
  /** RFC 3339 */
  expires_at: z.string(),
});
export type UrlTicket = z.infer<typeof urlTicket>;

const FAMILY = "Ports and URL";

export const portsRoutes: readonly RouteDescription[] = [
  {
    method: "GET",
    path: "/v1/sprites/{name}/ports/watch",
    family: FAMILY,
    summary: "Tells which ports are listened on, and each change",
    webSocket: { docs: "docs/api/ports.md" },
    answers: { 101: { summary: "the frames port_list, port_opened and port_closed follow" } },
  },
  {
    method: "GET",
    path: "/v1/sprites/{name}/proxy",
    family: FAMILY,
    summary: "Connects to a TCP port inside the sprite",
    webSocket: { docs: "docs/api/ports.md" },
    answers: { 101: { summary: "the first frame says where to, then binary frames are the connection's bytes" } },
  },
  {
    method: "POST",
    path: "/v1/sprites/{name}/url/ticket",
    family: FAMILY,
    summary: "Makes a link that signs a browser in at the sprite's URL, once",
    extension: true,
    answers: { 201: { summary: "the link", body: { json: urlTicket } } },
  },
];
