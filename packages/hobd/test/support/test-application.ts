import { createHash } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { WebSocketServer } from "ws";

export interface Seen {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
}

/** A web server as a user would run it inside a sprite. The path says what it does. */
export class TestApplication implements AsyncDisposable {
  readonly seen: Seen[] = [];
  readonly server: Server;
  readonly #webSockets = new WebSocketServer({ noServer: true });

  constructor() {
    const once = new WeakSet<Socket>();
    // biome-ignore lint/complexity/noExcessiveCognitiveComplexity: a table of what a path does
    this.server = createServer(async (request, response) => {
      const { method = "", url = "", headers } = request;
      this.seen.push({ method, url, headers });
      if (url === "/hash") {
        const hash = createHash("sha256");
        for await (const chunk of request) hash.update(chunk);
        response.end(hash.digest("hex"));
      } else if (url.startsWith("/bytes/")) {
        response.setHeader("Content-Length", url.slice(7));
        response.end(Buffer.alloc(Number(url.slice(7)), "y"));
      } else if (url === "/events") {
        response.writeHead(200, { "Content-Type": "text/event-stream" });
        response.write("data: 1\n\n");
        request.once("close", () => this.seen.push({ method: "CLOSED", url, headers }));
      } else if (url === "/cut") {
        response.writeHead(200, { "Content-Length": "1000" });
        response.write("some", () => response.destroy());
      } else if (url === "/die") request.socket.destroy();
      else if (url === "/once") {
        // As if the connection had been closed while the second request was on its way.
        if (once.has(request.socket)) request.socket.destroy();
        else response.end("ok");
        once.add(request.socket);
      } else if (url === "/hop") {
        response.setHeader("X-Private", "1");
        response.setHeader("Proxy-Authenticate", "Basic");
        response.setHeader("Trailer", "X-Late");
        response.setHeader("Set-Cookie", ["a=1", "b=2"]);
        response.setHeader("Connection", "keep-alive, X-Private");
        response.write("x");
        response.addTrailers({ "X-Late": "1" });
        response.end();
      } else response.writeHead(url === "/teapot" ? 418 : 200, { "X-App": "yes" }).end(`${method} ${url}`);
    });
    this.server.on("checkContinue", (request, response) => {
      this.seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
      if (request.url === "/no-body") return void response.writeHead(413, { Connection: "close" }).end("too large");
      response.writeContinue();
      request.once("data", (chunk) => response.end(`got ${chunk}`));
    });
    this.server.on("upgrade", (request, socket, head) => {
      this.seen.push({ method: "UPGRADE", url: request.url ?? "", headers: request.headers });
      if (request.url === "/no") return void socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
      this.#webSockets.handleUpgrade(request, socket, head, (client) => {
        client.send("welcome");
        client.on("message", (data, isBinary) => client.send(data, { binary: isBinary }));
      });
    });
  }

  static async start(): Promise<TestApplication> {
    const application = new TestApplication();
    await new Promise<void>((resolve) => application.server.listen(0, "127.0.0.1", resolve));
    return application;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#webSockets.clients) client.terminate();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
