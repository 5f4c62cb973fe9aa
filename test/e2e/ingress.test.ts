import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { ProxyManager, proxyPort, proxyPorts } from "@fly/sprites";
import type { PortNotification } from "@hob/protocol";
import { WebSocket } from "ws";
import { covers } from "./support/covers.ts";
import { outputOf, rootShell, start } from "./support/exec.ts";
import { startHob } from "./support/hob.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

covers("WSS /v1/sprites/{name}/ports/watch", "WSS /v1/sprites/{name}/proxy", "POST /v1/sprites/{name}/url/ticket");

/** Servers of Python are started again and again: seconds each where others use the machine too. */
const LIMIT = { timeout: 240_000 };
/** The first start of Python in a new sprite reads all of it from the disk. */
const START_TIMEOUT_MS = 90_000;
const SITE = readFileSync(new URL("support/site.py", import.meta.url), "utf8");

const files = mkdtempSync(join(tmpdir(), "hob-e2e-tls-"));
const certFile = join(files, "cert.pem");
const keyFile = join(files, "key.pem");
execFileSync(
  "openssl",
  [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=sprites.localhost"],
    ...["-addext", "subjectAltName=DNS:*.sprites.localhost,DNS:localhost", "-keyout", keyFile, "-out", certFile],
  ],
  { stdio: "pipe" },
);
after(() => rmSync(files, { recursive: true, force: true }));

const suite = useDaemon({
  sprites: ["web"],
  flags: ["--tls-cert", certFile, "--tls-key", keyFile, "--tls-listen", "127.0.0.1:0"],
  prepare: (daemon) => outputOf(daemon.sdk().sprite("web"), `cat > /tmp/site.py <<'END'\n${SITE}\nEND`),
});
const web = () => suite.sprite("web");
const port = () => Number(new URL(suite.daemon.url).port);
const bearer = () => ({ authorization: `Bearer ${suite.daemon.token}` });

interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

function begin(path: string, method = "GET", headers: OutgoingHttpHeaders = bearer()) {
  return httpRequest({
    host: "127.0.0.1",
    port: port(),
    path,
    method,
    agent: false,
    headers: { host: "web.sprites.localhost", ...headers },
  });
}

async function ask(path: string, options: { method?: string; headers?: OutgoingHttpHeaders; send?: Buffer } = {}): Promise<Answer> {
  const outgoing = begin(path, options.method, options.headers);
  outgoing.end(options.send);
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(await answer.toArray()) };
}

/** Starts the server inside and waits until it listens; ends with the test. */
async function serve(host: string, onPort: number, name = "site"): Promise<AsyncDisposable> {
  const { command, exited, stderr } = await start(web(), "python3", ["/tmp/site.py", host, String(onPort), name]);
  const failed = exited.then((code) => assert.fail(`site.py on ${host}:${onPort} has ended with ${code}: ${stderr()}`));
  const listens = until(
    `port ${onPort} opens`,
    async () => (await outputOf(web(), `ss -Hltn 'sport = :${onPort}' | wc -l`)) !== "0",
    START_TIMEOUT_MS,
  );
  await Promise.race([listens, failed]);
  return {
    async [Symbol.asyncDispose]() {
      command.kill("SIGKILL");
      await exited;
    },
  };
}

describe("the sprite's URL", () => {
  test("nothing listens: a page says so, and what to do", LIMIT, async () => {
    const { status, headers, body } = await ask("/", { headers: { ...bearer(), accept: "text/html" } });
    assert.deepEqual([status, headers["hob-error"]], [502, "nothing_listens"]);
    assert.match(String(body), /8080/);
  });

  test("a server on the loopback: requests, streams, large bodies, WebSockets", LIMIT, async () => {
    await using _ = await serve("127.0.0.1", 8080);
    const { status, body } = await ask("/a?b=c");
    assert.equal(status, 200);
    assert.match(String(body), /^site \/a\?b=c from 127\.0\.0\.1\n/);
    assert.match(String(body), /^host: web\.sprites\.localhost$/m);
    assert.match(String(body), /^x-forwarded-for: 127\.0\.0\.1$/m);
    assert.doesNotMatch(String(body), /authorization/);

    const bytes = randomBytes(8 * 1024 * 1024);
    const { body: digest } = await ask("/upload", { method: "POST", send: bytes });
    assert.equal(String(digest), createHash("sha256").update(bytes).digest("hex"));
    assert.equal((await ask("/bytes/16000000")).body.length, 16_000_000);

    const outgoing = begin("/events");
    outgoing.end();
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    // Each event is there before the server may make the next one: nothing on the way waits for more.
    const events = answer[Symbol.asyncIterator]();
    for (const number of [0, 1, 2]) {
      assert.equal(String((await events.next()).value), `data: ${number}\n\n`);
      if (number < 2) assert.equal((await ask("/next")).status, 200);
    }
    assert.equal((await events.next()).done, true);

    const socket = new WebSocket(`ws://127.0.0.1:${port()}/socket`, { headers: { host: "web.sprites.localhost", ...bearer() } });
    await once(socket, "open");
    socket.send("hello");
    assert.equal(String((await once(socket, "message"))[0]), "hello");
    socket.terminate();
  });

  test("private, then public, then private again; a browser signs in", LIMIT, async () => {
    await using _ = await serve("0.0.0.0", 8080);
    const stranger = async () => (await ask("/", { headers: {} })).status;
    assert.equal(await stranger(), 401);
    assert.equal((await suite.daemon.hob("url", "update", "web", "--auth", "public")).code, 0);
    assert.equal(await stranger(), 200);
    assert.equal((await suite.daemon.hob("url", "update", "web", "--auth", "sprite")).code, 0);
    assert.equal(await stranger(), 401);
    const made = await suite.daemon.hob("url", "web", "--ticket");
    const link = new URL(made.stdout.trim());
    const { status, headers } = await ask(link.pathname + link.search, { headers: {} });
    assert.equal(status, 303);
    const cookie = headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
    const { body } = await ask("/", { headers: { cookie } });
    assert.match(String(body), /^site \//);
    assert.doesNotMatch(String(body), /cookie/);
  });

  test("every address that a server may have, and the port that is meant", LIMIT, async () => {
    for (const host of ["::1", "10.0.0.1", "::"]) {
      await using _ = await serve(host, 8080, host);
      await until(`a server on ${host} answers`, async () => (await ask("/")).status === 200);
    }
    await using first = await serve("127.0.0.1", 3000, "first");
    await using other = await serve("127.0.0.1", 2000, "other");
    assert.match(String((await ask("/")).body), /^first /, "the oldest");
    await using usual = await serve("127.0.0.1", 8080, "usual");
    await until("8080 comes first", async () => String((await ask("/")).body).startsWith("usual "), 40_000);
    assert.ok(first && other && usual);
  });

  test("with TLS: by the wildcard's names, and the sprite's url says so", LIMIT, async () => {
    await using _ = await serve("127.0.0.1", 8080);
    const { url } = (await (await suite.daemon.fetch("/v1/sprites/web")).json()) as { url: string };
    assert.match(url, /^https:\/\/web\.sprites\.localhost:\d+$/);
    const ca = readFileSync(certFile);
    const { hostname: servername, port: tlsPort } = new URL(url);
    const options = {
      host: "127.0.0.1",
      port: tlsPort,
      servername,
      ca,
      agent: false,
      headers: { host: `${servername}:${tlsPort}`, ...bearer() },
    };
    const outgoing = httpsRequest(options);
    outgoing.end();
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    assert.match(Buffer.concat(await answer.toArray()).toString(), /^x-forwarded-proto: https$/m);
  });

  test("a request wakes the sprite", LIMIT, async () => {
    await suite.daemon.stop();
    await suite.daemon.restart();
    // Its server was saved with it, or is gone with its memory: either way the sprite runs and says which.
    const { status } = await ask("/");
    assert.ok(status === 200 || status === 502, `status ${status}`);
    assert.equal(((await (await suite.daemon.fetch("/v1/sprites/web")).json()) as { status: string }).status, "running");
  });
});

describe("ports", () => {
  test("the SDK's watchPorts sees a port open and close", LIMIT, async () => {
    const watcher = await web().watchPorts();
    const next = async (type: string, port: number) => {
      for (;;) {
        const event = (await watcher.next()) as PortNotification | null;
        assert.ok(event !== null, "the watch ended");
        if (event.type === type && event.port === port) return;
      }
    };
    assert.equal(((await watcher.next()) as { type?: string } | null)?.type, "port_list");
    {
      await using _ = await serve("127.0.0.1", 4100);
      await next("port_opened", 4100);
    }
    await next("port_closed", 4100);
    watcher.close();
  });

  test("a terminal session is told of ports, one without a terminal is not", LIMIT, async () => {
    const frames: { tty: boolean; type?: string; port?: number }[] = [];
    const sessions = await Promise.all(
      [true, false].map(async (tty) => {
        const session = await start(web(), "sh", ["-c", "read line"], { tty });
        session.command.on("message", (frame: object) => frames.push({ ...frame, tty }));
        return session;
      }),
    );
    {
      await using _ = await serve("127.0.0.1", 4150);
      await until("port_opened", () => frames.some(({ type, port }) => type === "port_opened" && port === 4150));
    }
    await until("port_closed", () => frames.some(({ type, port }) => type === "port_closed" && port === 4150));
    assert.ok(frames.every(({ tty }) => tty));
    for (const { command, exited } of sessions) {
      command.stdin.write("\n");
      await exited;
    }
    assert.equal(String(sessions[1]?.stdout()), "");
  });

  test("the SDK's proxyPort reaches a server on the loopback; a closed port ends the connection", LIMIT, async () => {
    await using _ = await serve("127.0.0.1", 4200);
    const proxy = await web().proxyPort(0, 4200);
    const address = new URL(`http://${proxy.localAddr()}`);
    const socket = connect(Number(address.port), "localhost");
    socket.write("GET /proxied HTTP/1.0\r\n\r\n");
    assert.match(Buffer.concat(await socket.toArray()).toString(), /site \/proxied/);
    proxy.close();
    const closed = await web().proxyPort(0, 4201);
    const refused = connect(Number(new URL(`http://${closed.localAddr()}`).port), "localhost");
    refused.on("error", () => {});
    await once(refused, "close");
    closed.close();
  });

  test("the SDK's sets of proxies: all that were opened are closed together", LIMIT, async () => {
    await using _ = await serve("127.0.0.1", 4210);
    const manager = new ProxyManager();
    const client = { baseURL: suite.daemon.url, token: suite.daemon.token };
    const mappings = [{ localPort: 0, remotePort: 4210 }];
    const opened = [
      await proxyPort(client, "web", 0, 4210),
      ...(await proxyPorts(client, "web", mappings)),
      ...(await web().proxyPorts(mappings)),
    ];
    for (const session of opened) {
      manager.addSession(session);
      const { port } = new URL(`http://${session.localAddr()}`);
      assert.match(await (await fetch(`http://localhost:${port}/many`)).text(), /^site \/many/);
    }
    manager.closeAll();
    await manager.waitAll();
    await Promise.all(opened.map((session) => session.wait()));
  });

  test("other hosts: as far as the sprite itself reaches, never the root namespace", LIMIT, async () => {
    await rootShell(web(), "echo 10.0.0.1 here.test >> /etc/hosts");
    await using _ = await serve("10.0.0.1", 4300);
    assert.equal((await proxyAnswer({ host: "here.test", port: 4300 })).status, "connected");
    assert.equal((await proxyAnswer({ host: "sprite", port: 4300 })).status, "connected");
    // The pilot listens there, and its own loopback has it too.
    assert.equal((await proxyAnswer({ host: "10.9.0.2", port: 8080 })).status, "error");
    assert.equal((await proxyAnswer({ host: "no.such.name.invalid", port: 80 })).status, "error");
    assert.equal((await proxyAnswer({ port: 0 })).error, "invalid_request");
  });

  test("hob proxy: a port, another local port, and standard input and output", LIMIT, async () => {
    await using _ = await serve("127.0.0.1", 4400);
    const child = startHob(["proxy", "web", "0:4400"], suite.daemon.env);
    const local = Number(/127\.0\.0\.1:(\d+)/.exec(String((await once(child.stdout, "data"))[0]))?.[1]);
    assert.match(await (await fetch(`http://127.0.0.1:${local}/cli`)).text(), /^site \/cli/);
    child.kill("SIGINT");
    await once(child, "close");
    const piped = startHob(["proxy", "web", "-W", "localhost:4400"], suite.daemon.env);
    piped.stdin.end("GET /piped HTTP/1.0\r\n\r\n");
    assert.match(Buffer.concat(await piped.stdout.toArray()).toString(), /site \/piped/);
  });
});

async function proxyAnswer(first: object): Promise<{ status: string; error?: string }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port()}/v1/sprites/web/proxy`, { headers: bearer() });
  await once(socket, "open");
  socket.send(JSON.stringify(first));
  const [data] = await once(socket, "message");
  socket.terminate();
  return JSON.parse(String(data)) as { status: string; error?: string };
}
