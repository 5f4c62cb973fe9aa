import { connect } from "node:net";
import type { WebSocket } from "ws";

/** One proxied connection as the wire description has it, section 7, with Hob's half-close: to this machine's own port. */
export function serveProxy(client: WebSocket): void {
  client.on("error", () => {});
  client.once("message", (first) => {
    const { port, half_close } = JSON.parse(String(first)) as { port: number; half_close?: boolean };
    const target = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    target.once("connect", () => client.send(JSON.stringify({ status: "connected", target: `127.0.0.1:${port}` })));
    target.on("error", () => {
      client.send(JSON.stringify({ status: "error", error: "nothing_listens", message: "connect: nothing listens there" }));
      client.close(1011);
    });
    let ends = 0;
    const onEnd = () => {
      if (++ends === 2 || half_close !== true) client.close(1000);
    };
    target.on("data", (chunk) => client.send(chunk));
    target.on("end", () => {
      if (half_close === true) client.send('{"type":"eof"}');
      onEnd();
    });
    client.on("message", (data, isBinary) => {
      if (isBinary) return void target.write(data as Buffer);
      target.end();
      onEnd();
    });
    client.on("close", () => target.destroy());
  });
}
