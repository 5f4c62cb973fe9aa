/** The daemon's own server over TCP, with the real API, front door and ingress; machines are those of its tests. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import { TestDaemon } from "../../../../packages/hobd/test/support/test-daemon.ts";
import type { Random } from "../../../../packages/storage/test/support/random.ts";
import { mutated, mutatedJson, pieces } from "../mutate.ts";
import { ensure, type Subject, type Target, target } from "../target.ts";
import { checkServerFrames, frames } from "../web-socket-frames.ts";
import { answersIn, exchange, httpRequest, judge, UPGRADE } from "../wire.ts";

const DOMAIN = "sprites.localhost";

/** A daemon with two sprites, one of them public, a pilot behind both, and a server in them. */
class DaemonSubject implements Subject<Buffer[]> {
  readonly #daemon: TestDaemon;
  readonly #application: Server;
  readonly #corpus: readonly Buffer[];

  private constructor(daemon: TestDaemon, application: Server, corpus: readonly Buffer[]) {
    this.#daemon = daemon;
    this.#application = application;
    this.#corpus = corpus;
  }

  static async start(corpus: (bearer: string, ticket: string) => Buffer[]): Promise<DaemonSubject> {
    const daemon = await TestDaemon.start({ logLevel: "silent", maxRunning: 40 });
    const application = startApplication();
    await new Promise<void>((resolve) => application.listen(0, "127.0.0.1", resolve));
    daemon.pilot.applicationPort = (application.address() as AddressInfo).port;
    await daemon.create("box");
    await daemon.create("open", { url_settings: { auth: "public" } });
    const { url } = (await (await daemon.fetch("/v1/sprites/box/url/ticket", { method: "POST" })).json()) as { url: string };
    return new DaemonSubject(daemon, application, corpus(`Bearer ${daemon.token}`, new URL(url).search));
  }

  input(random: Random): Buffer[] {
    const json = jsonRequest(random, this.#daemon.token);
    return pieces(random, random.chance(0.2) ? json : mutated(random, [...this.#corpus, json]));
  }

  async run(parts: Buffer[]) {
    const bytes = await exchange({ host: "127.0.0.1", port: Number(new URL(this.#daemon.url).port) }, parts);
    const answers = answersIn(bytes);
    for (const { status, body } of answers) if (status === 101) checkServerFrames(body, true);
    return judge(answers);
  }

  async settle(): Promise<number> {
    const { daemon, pilot, runtime } = { ...this.#parts };
    pilot.seen.length = 0;
    runtime.calls.length = 0;
    const healthy = await daemon.fetch("/healthz");
    ensure(healthy.ok && (await healthy.json()) !== undefined, () => "it does not answer any more");
    return pilot.webSocketCount;
  }

  get #parts() {
    return { daemon: this.#daemon, pilot: this.#daemon.pilot, runtime: this.#daemon.runtime };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#application.closeAllConnections();
    this.#application.close();
    await this.#daemon[Symbol.asyncDispose]();
  }
}

/** What a user would run inside: it answers everything. */
function startApplication(): Server {
  const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  const server = createServer((request, response) => {
    request.resume();
    request.on("error", () => {});
    response.setHeader("Set-Cookie", "a=1");
    response.end(`${request.method} ${request.url}`);
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    webSockets.handleUpgrade(request, socket, head, (client) => {
      client.on("error", () => {});
      client.on("message", (data, isBinary) => client.send(data, { binary: isBinary }));
    });
  });
  return server;
}

const BODIES: readonly [method: string, path: string, body: unknown][] = [
  [
    "POST",
    "/v1/sprites",
    { name: "box", labels: ["a"], environment: { A: "1" }, config: { ram_mb: 512 }, url_settings: { auth: "public" } },
  ],
  ["PUT", "/v1/sprites/box", { labels: ["x"], url_settings: { auth: "sprite" }, idle_timeout_seconds: 60 }],
  ["POST", "/v1/sprites/box/policy/network", { rules: [{ domain: "example.com", action: "allow" }, { include: "defaults" }] }],
  ["POST", "/v1/sprites/box/policy/privileges", { profile: "minimal", devices: ["/dev/fuse"] }],
  ["POST", "/v1/sprites/box/policy/resources", { memory: { limit_mb: 512 }, cpu: { limit: 1 } }],
  ["POST", "/v1/sprites/box/sleep", { force: false }],
  ["POST", "/v1/tokens", { description: "x" }],
];

function jsonRequest(random: Random, token: string): Buffer {
  const [method, path, body] = random.pick(BODIES);
  return httpRequest(method, path, { Authorization: `Bearer ${token}`, Connection: "close" }, JSON.stringify(mutatedJson(random, body)));
}

function apiCorpus(bearer: string): Buffer[] {
  const headers = { Authorization: bearer };
  const close = { ...headers, Connection: "close" };
  return [
    httpRequest("GET", "/healthz", { Connection: "close" }),
    httpRequest("GET", "/v1/sprites?prefix=b&max_results=10&continuation_token=MTpib3g", close),
    httpRequest("GET", "/v1/sprites", { ...headers, Accept: "application/x-ndjson" }),
    httpRequest("GET", "/v1/sprites/box", close),
    httpRequest("GET", "/v1/sprites/box/check", close),
    httpRequest("GET", "/v1/sprites/box/activity", close),
    httpRequest("POST", "/v1/sprites", { ...close, "Idempotency-Key": "key-1", Expect: "100-continue" }, '{"name":"box"}'),
    httpRequest("GET", "/v1/sprites/box/policy/network", close),
    httpRequest("DELETE", "/v1/sprites/box/policy/resources", close),
    httpRequest("GET", "/v1/sprites/box/echo?cmd=a&env=B=1", close),
    httpRequest("POST", "/v1/sprites/box/sink", { ...close, "Transfer-Encoding": "chunked" }).subarray(0),
    Buffer.concat([
      httpRequest("POST", "/v1/sprites/box/sink", { ...close, "Transfer-Encoding": "chunked" }),
      Buffer.from("5\r\nhello\r\n0\r\n\r\n"),
    ]),
    httpRequest("GET", "/v1/sprites/box/frames", close),
    httpRequest("GET", "/openapi.json", close),
    Buffer.concat([httpRequest("GET", "/v1/sprites/box", headers), httpRequest("GET", "/healthz", { Connection: "close" })]),
    httpRequest("GET", "/v1/sprites/box/exec?cmd=true", { ...headers, ...UPGRADE }),
  ];
}

function urlCorpus(bearer: string, ticket: string): Buffer[] {
  const box = { Host: `box.${DOMAIN}:7788`, Connection: "close" };
  const open = { Host: `open.${DOMAIN}`, Connection: "close" };
  return [
    httpRequest("GET", "/", open),
    httpRequest("GET", `http://open.${DOMAIN}/path?query`, { Connection: "close" }),
    httpRequest(
      "POST",
      "/form",
      { ...open, Cookie: "a=b; hob_url=x; c=d", Origin: `http://open.${DOMAIN}`, Expect: "100-continue" },
      "a=b",
    ),
    httpRequest("GET", "/private", { ...box, Authorization: bearer }),
    httpRequest("GET", "/private", { ...box, Cookie: "hob_url=0123456789abcdef.1800000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }),
    httpRequest("GET", `/.hob/sign-in${ticket}`, box),
    httpRequest("GET", "/.hob/sign-out", box),
    httpRequest("GET", "/", { ...box, Accept: "text/html", "Sec-Fetch-Site": "cross-site", "X-Forwarded-For": "1.2.3.4" }),
    httpRequest("GET", "/nobody", { ...open, Host: `nobody.${DOMAIN}` }),
    Buffer.concat([httpRequest("POST", "/up", { ...open, "Transfer-Encoding": "chunked" }), Buffer.from("3\r\nabc\r\n0\r\nX: y\r\n\r\n")]),
    httpRequest("GET", "/ws", { ...open, ...UPGRADE }),
  ];
}

/** Frames through the front door and through a sprite's URL: they are passed on, and whatever comes of them ends both sides. */
class FrameSubject implements Subject<{ isUrl: boolean; bytes: Buffer }> {
  readonly #inner: DaemonSubject;
  #bearer = "";

  private constructor(inner: DaemonSubject) {
    this.#inner = inner;
  }

  static async start(): Promise<FrameSubject> {
    let known = "";
    const inner = await DaemonSubject.start((bearer) => {
      known = bearer;
      return [Buffer.from("x")];
    });
    const subject = new FrameSubject(inner);
    subject.#bearer = known;
    return subject;
  }

  input(random: Random) {
    return {
      isUrl: random.chance(0.5),
      bytes: frames(random, ["hello", '{"type":"resize","cols":1,"rows":1}', "close"], [Buffer.from("\0data"), Buffer.of(4)]),
    };
  }

  run({ isUrl, bytes }: { isUrl: boolean; bytes: Buffer }) {
    const headers = isUrl ? { ...UPGRADE, Host: `open.${DOMAIN}` } : { ...UPGRADE, Authorization: this.#bearer };
    return this.#inner.run([httpRequest("GET", isUrl ? "/ws" : "/v1/sprites/box/exec?cmd=cat", headers), bytes]);
  }

  settle(): Promise<number> {
    return this.#inner.settle();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#inner[Symbol.asyncDispose]();
  }
}

export const daemonTargets: readonly Target[] = [
  target({ name: "daemon-http", summary: "the daemon's HTTP: API and front door, over TCP", weight: 2, lanes: 16 }, () =>
    DaemonSubject.start(apiCorpus),
  ),
  target({ name: "daemon-urls", summary: "the daemon's HTTP: sprites' URLs, sign-in, cookies, over TCP", weight: 1, lanes: 16 }, () =>
    DaemonSubject.start(urlCorpus),
  ),
  target({ name: "daemon-websockets", summary: "WebSocket frames through the daemon", weight: 0.5, lanes: 16 }, () => FrameSubject.start()),
];
