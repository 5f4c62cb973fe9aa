import type { ClientRequest } from "node:http";

/**
 * Makes an error of a change of the protocol (101) that nobody asked for. Node.js only closes the connection then: there is
 * neither an answer nor an error, and whoever waits would wait for ever.
 */
export function refuseUnaskedUpgrade(outgoing: ClientRequest): void {
  outgoing.once("upgrade", (_answer, socket) => {
    socket.destroy();
    outgoing.emit("error", new Error("the server changed the protocol unasked"));
  });
}
