import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

/** A response on a socket that the HTTP server has let go of, for all answers to an upgrade that are not 101. */
export function bareResponse(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket as Socket);
  response.once("finish", () => socket.end());
  // Nobody reads this socket any more; reading shows when the client has gone.
  response.once("finish", () => socket.resume());
  return response;
}
