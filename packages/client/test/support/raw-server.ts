import { createHash } from "node:crypto";
import { type AddressInfo, createServer, type Socket } from "node:net";

/** A server that answers the head of any request with these bytes and then ends. */
export async function startRawServer(answer: (head: string) => Buffer | string): Promise<{ url: string } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    let head = "";
    socket.on("data", (chunk) => {
      const isAnswered = head.includes("\r\n\r\n");
      head += chunk.toString("latin1");
      if (!isAnswered && head.includes("\r\n\r\n")) socket.end(answer(head));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An accepted upgrade to WebSocket, RFC 6455 section 4.2.2, and what follows it in the same segment. */
export function upgraded(head: string, ...frames: readonly Buffer[]): Buffer {
  const key = /^sec-websocket-key: (.*)\r$/im.exec(head)?.[1] ?? "";
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  const lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", `Sec-WebSocket-Accept: ${accept}`];
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), ...frames]);
}

/** A short frame of a server. @param opcode 1 text, 2 binary, 8 close */
export const frame = (opcode: number, payload: string | Buffer): Buffer =>
  Buffer.concat([Buffer.of(0x80 | opcode, Buffer.byteLength(payload)), Buffer.from(payload)]);
