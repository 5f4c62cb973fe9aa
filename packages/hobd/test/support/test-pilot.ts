import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { pipeline as pipelineDone } from "node:stream/promises";
import { PILOT_ROUTES, REQUEST_ID_HEADER, STARTING_HEADER } from "@hob/protocol";
import { WebSocketServer } from "ws";

/** What one request looked like when it arrived. */
export interface SeenRequest {
  method: string;
  url: string;
  headers: IncomingMessage["headers"];
}

const CHUNK = Buffer.alloc(64 * 1024, "x");

/**
 * A real HTTP and WebSocket server that stands where a sprite's pilot would listen. The last segment of the path says
 * what it does.
 */
export class TestPilot implements AsyncDisposable {
  readonly seen: SeenRequest[] = [];
  /** bytes handed to the kernel by `firehose` */
  sentBytes = 0;
  /** bytes read by `sink` */
  readBytes = 0;
  /** answers 401 to other tokens when set */
  acceptedToken: string | undefined;
  /** where tunnels to the sprite's URL lead; undefined: nothing listens */
  applicationPort: number | undefined;
  /** that were opened */
  tunnels = 0;
  readonly waiting: ServerResponse[] = [];
  /** connections that have served a request */
  readonly used = new WeakSet<Socket>();
  /** requests that are refused because the pilot is being started */
  starting = 0;
  /** refuses a name that it has taken before, as pilots do */
  takesOnce = false;
  /** what `slow` waits for */
  slow = Promise.resolve();
  /** requests that were not taken, and those that were answered */
  refused = 0;
  answered = 0;
  readonly #taken = new Set<unknown>();
  /** called while a sprite brings what it has into the store */
  onSync: () => void | Promise<void> = () => {};
  /** body with which that is refused */
  syncRefusal: string | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

  constructor() {
    this.#server = createServer({ maxHeaderSize: 512 * 1024 }, (request, response) => void this.#answer(request, response));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("checkContinue", (request, response) => void this.#answer(request, response));
    this.#server.on("upgrade", (request, socket, head) => {
      const refusal = this.#refusal(request);
      if (refusal !== undefined) return void socket.end(refusal.raw);
      this.#note(request);
      if (request.url === PILOT_ROUTES.ingress) return this.#openTunnel(request, socket);
      if (request.url?.includes("/refuse")) {
        socket.end('HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"error":"nope"}'.slice(0, -1));
        return;
      }
      if (request.url?.includes("/mute")) return;
      if (request.url?.includes("/shy") && this.seen.length === 1) return void socket.destroy();
      this.#webSockets.handleUpgrade(request, socket, head, (ws) => {
        ws.on("error", () => {});
        if (request.url?.includes("/greet")) ws.send("hello at once");
        ws.on("message", (data, isBinary) => {
          if (data.toString() === "die") socket.destroy();
          else if (data.toString() === "close") ws.close(4007, "as asked");
          else ws.send(data, { binary: isBinary });
        });
      });
    });
  }

  /** What a pilot does: joins the connection with the application's, or says why not. */
  #openTunnel(request: IncomingMessage, socket: Duplex): void {
    const refuse = (status: number, error: string) => {
      const body = JSON.stringify({ error, message: `<b>as the test asked</b>` });
      socket.end(`HTTP/1.1 ${status} Refused\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    };
    if (this.acceptedToken !== undefined && request.headers.authorization !== `Bearer ${this.acceptedToken}`) {
      refuse(401, "unauthorized");
    } else if (this.applicationPort === undefined) refuse(502, "nothing_listens");
    else this.#joinApplication(socket, this.applicationPort);
  }

  #joinApplication(socket: Duplex, port: number): void {
    this.tunnels++;
    const inside = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.write("HTTP/1.1 102 Processing\r\n\r\n");
    inside.once("connect", () => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: hob-tunnel\r\n\r\n");
      pipeline(inside, socket, () => {});
      pipeline(socket, inside, () => {});
    });
    inside.on("error", () => socket.destroy());
    socket.on("error", () => inside.destroy());
  }

  static async start(): Promise<TestPilot> {
    const pilot = new TestPilot();
    await new Promise<void>((resolve) => pilot.#server.listen(0, "127.0.0.1", resolve));
    return pilot;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Open TCP connections. */
  get connectionCount(): number {
    return this.#sockets.size;
  }

  get webSocketCount(): number {
    return this.#webSockets.clients.size;
  }

  /** Cuts every connection, as the end of a VM does. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Forgets the names that it has taken, as a VM does that boots. */
  forget(): void {
    this.#taken.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }

  #note({ method = "", url = "", headers }: IncomingMessage): void {
    this.seen.push({ method, url, headers });
  }

  /** Why a request is not taken: then it is not noted as seen. */
  #refusal({ headers }: IncomingMessage): { status: number; headers: Record<string, string>; raw: string } | undefined {
    const refuse = (status: number, more: Record<string, string> = {}) => {
      this.refused++;
      const lines = Object.entries({ ...more, "Content-Length": "2" }).map(([name, value]) => `${name}: ${value}\r\n`);
      return { status, headers: more, raw: `HTTP/1.1 ${status} Refused\r\n${lines.join("")}\r\n{}` };
    };
    if (this.starting > 0) {
      this.starting--;
      return refuse(503, { [STARTING_HEADER]: "1" });
    }
    if (!this.takesOnce) return undefined;
    const id = headers[REQUEST_ID_HEADER];
    if (this.#taken.has(id)) return refuse(409);
    this.#taken.add(id);
    return undefined;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refusal = this.#refusal(request);
    if (refusal !== undefined) return void response.writeHead(refusal.status, refusal.headers).end("{}");
    if (request.headers.expect !== undefined) response.writeContinue();
    this.#note(request);
    response.on("error", () => {});
    response.once("finish", () => {
      this.used.add(request.socket);
      this.answered++;
    });
    request.on("error", () => {});
    if (this.acceptedToken !== undefined && request.headers.authorization !== `Bearer ${this.acceptedToken}`) {
      response.writeHead(401).end('{"error":"unauthorized"}');
      return;
    }
    const url = new URL(request.url ?? "/", "http://pilot");
    const route = url.pathname.split("/").at(-1) ?? "";
    await ROUTES[route]?.call(this, request, response, url).catch(() => response.destroy());
    if (ROUTES[route] === undefined) response.writeHead(404).end('{"error":"no such test route"}');
  }
}

type Route = (this: TestPilot, request: IncomingMessage, response: ServerResponse, url: URL) => Promise<void>;

const ROUTES: Record<string, Route> = {
  async ready(_request, response) {
    response.end("{}");
  },
  async echo(request, response) {
    request.resume();
    response.writeHead(200, { "Content-Type": "application/json", "X-Pilot": ["one", "two"] });
    response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers }));
  },
  /** history, as a reader is asked for it */
  async files(_request, response) {
    response.end("{}");
  },
  async sink(request, response) {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of request) {
      bytes += chunk.length;
      this.readBytes += chunk.length;
      hash.update(chunk);
    }
    response.end(JSON.stringify({ bytes, sha256: hash.digest("hex") }));
  },
  /** Reads a little and then no more. */
  async clog(request) {
    request.once("data", (chunk) => {
      this.readBytes += chunk.length;
      request.pause();
    });
    await new Promise((resolve) => request.once("close", resolve));
  },
  async firehose(_request, response, url) {
    let left = Number(url.searchParams.get("bytes"));
    const pilot = this;
    await pipelineDone(async function* () {
      for (; left > 0; left -= CHUNK.length) {
        const chunk = CHUNK.subarray(0, Math.min(left, CHUNK.length));
        pilot.sentBytes += chunk.length;
        yield chunk;
      }
    }, response);
  },
  /** Headers at once, then nothing until the client goes. */
  async silent(_request, response) {
    response.writeHead(200, { "Content-Type": "application/x-ndjson" }).flushHeaders();
    await new Promise((resolve) => response.once("close", resolve));
  },
  /** Has everything in the store. */
  async sync(_request, response) {
    await this.onSync();
    response.writeHead(this.syncRefusal === undefined ? 200 : 507).end(this.syncRefusal ?? "{}");
  },
  /** Three chunks in one TCP segment. */
  async frames(_request, response) {
    response.writeHead(200).flushHeaders();
    response.socket?.write("4\r\n\x01one\r\n4\r\n\x02two\r\n2\r\n\x03\x00\r\n0\r\n\r\n", "latin1");
    await new Promise((resolve) => response.once("close", resolve));
  },
  async ticks(request, response) {
    response.writeHead(200, { "Content-Type": "application/x-ndjson" });
    for await (const chunk of request) response.write(`got ${chunk}\n`);
    response.end();
  },
  /** Never answers. */
  async mute(_request, response) {
    await new Promise((resolve) => response.once("close", resolve));
  },
  async half(_request, response) {
    response.writeHead(200, { "Content-Length": "1000" });
    response.write("half of it", () => response.destroy());
  },
  /** Ends the connection without a byte of answer, the first time only. */
  async shy(request, response) {
    if (this.seen.filter(({ url }) => url.endsWith("/shy")).length === 1) request.socket.destroy();
    else response.end("second try");
  },
  /** Answers when four have come, so on four connections. */
  async together(_request, response) {
    this.waiting.push(response);
    if (this.waiting.length < 4) return;
    for (const each of this.waiting.splice(0)) each.end("all here");
  },
  /** Ends a connection that has served another request before. */
  async fresh(request, response) {
    if (this.used.has(request.socket)) request.socket.destroy();
    else response.end("on a connection of its own");
  },
  async slow(_request, response) {
    await this.slow;
    response.end("at last");
  },
  async conflict(_request, response) {
    response.writeHead(409).end("a conflict of its own");
  },
  /** Answers without reading the body. */
  async early(_request, response) {
    response.writeHead(413, { "Content-Type": "application/json" }).end('{"error":"too large"}');
  },
};
