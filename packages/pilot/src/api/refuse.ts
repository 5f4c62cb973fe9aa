import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { type HobError, SPRITE_VERSION } from "@hob/protocol";

/** Answers an upgrade request, before any upgrade, like any other request that is refused. */
export function refuseUpgrade(socket: Duplex, error: HobError, headers: Record<string, string> = {}): void {
  const body = JSON.stringify(error.toBody());
  const head = [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status] ?? ""}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    `Sprite-Version: ${SPRITE_VERSION}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}

/** Answers a request that was not passed to Hono. One whose answer has begun is cut. */
export function refuseRequest(
  request: IncomingMessage,
  response: ServerResponse,
  error: HobError,
  headers: Record<string, string> = {},
): void {
  request.resume();
  if (response.headersSent) return void response.destroy();
  response.writeHead(error.status, { "Content-Type": "application/json", "Sprite-Version": SPRITE_VERSION, ...headers });
  response.end(JSON.stringify(error.toBody()));
}
