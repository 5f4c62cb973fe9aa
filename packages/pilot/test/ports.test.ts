import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { EOF_FRAME, type HobError } from "@hob/protocol";
import { WebSocket } from "ws";
import { Activity } from "../src/activity/activity.ts";
import type { HelperProcess, Listener } from "../src/helper/index.ts";
import { IngressEndpoint } from "../src/ingress/endpoint.ts";
import { HttpTarget, httpCandidates } from "../src/ingress/http-target.ts";
import { InsideDialer } from "../src/ports/dialer.ts";
import { PortsEndpoint } from "../src/ports/endpoint.ts";
import { lookUpInside, parseAhosts } from "../src/ports/name-lookup.ts";
import { openPorts } from "../src/ports/open-ports.ts";
import { PortFeed } from "../src/ports/port-feed.ts";
import { containerUnavailable, startContainer, type TestContainer } from "./support/container.ts";
import { type RunningHelper, startHelper, waitFor } from "./support/helper.ts";

const listener = (port: number, address: string, inode: number, pid = inode): Listener => ({ port, address, inode, pid });

describe("which ports are open", () => {
  test("the sockets of one port are one, shown by the address that reaches furthest", () => {
    const ports = openPorts([listener(80, "127.0.0.1", 3), listener(80, "::", 2), listener(22, "0.0.0.0", 1), listener(80, "10.0.0.1", 1)]);
    assert.deepEqual(
      [...ports.values()].map(({ port, address, pid }) => [port, address, pid]),
      [
        [22, "0.0.0.0", 1],
        [80, "::", 2],
      ],
    );
  });

  test("what may answer a URL: the oldest process first, and no database", () => {
    const ports = [listener(3000, "::", 1, 50), listener(5432, "::", 2, 10), listener(2000, "::", 3, 90), listener(22, "::", 4, 1)];
    assert.deepEqual(httpCandidates([...openPorts(ports).values()]), [3000, 2000]);
  });

  test("the feed tells what changed, restarted servers too, and rests when nobody listens", async () => {
    let onList: (listeners: Listener[]) => void = () => {};
    let watches = 0;
    const ended = Promise.withResolvers<void>();
    const feed = new PortFeed({
      container: { state: () => "running", target: () => ({ initPid: 1 }) },
      helper: {
        async watchListeners(_pid, _interval, tell) {
          watches++;
          onList = tell;
          return { ended: ended.promise, [Symbol.dispose]: () => ended.resolve() };
        },
      },
    });
    const seen: string[] = [];
    const unsubscribe = feed.subscribe({
      list: (ports) => seen.push(`list ${ports.map(({ port }) => port)}`),
      opened: ({ port }) => seen.push(`opened ${port}`),
      closed: ({ port }) => seen.push(`closed ${port}`),
    });
    await waitFor(() => watches === 1, "the watch");
    onList([listener(1, "::", 1)]);
    onList([listener(1, "::", 1), listener(2, "::", 2)]);
    onList([listener(1, "127.0.0.1", 9), listener(1, "::", 1), listener(2, "::", 3)]);
    onList([listener(1, "127.0.0.1", 9)]);
    assert.deepEqual(seen, ["list 1", "opened 2", "closed 2", "opened 2", "closed 2"]);
    const late: number[] = [];
    const stopLate = feed.subscribe({ list: (ports) => late.push(...ports.map(({ port }) => port)), opened() {}, closed() {} });
    assert.deepEqual([late, watches], [[1], 1], "one watch serves all");
    unsubscribe();
    stopLate();
    await ended.promise;
  });

  test("lines of getent are addresses or nothing", () => {
    const text = "10.0.0.1 STREAM here\n10.0.0.1 DGRAM\n::1 STREAM x\nfe80::1%eth0 STREAM\n--help\n999.1.1.1 STREAM\n";
    assert.deepEqual(parseAhosts(text), ["10.0.0.1", "::1"]);
  });
});

const SERVER = `
import socket, sys
server = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2]))); server.listen(16)
while True:
    peer, _ = server.accept()
    while data := peer.recv(65536): peer.sendall(data)
    peer.sendall(b"|end"); peer.close()
`;

describe("ways into a container", { skip: containerUnavailable() ?? false }, () => {
  let helper: RunningHelper;
  let container: TestContainer;
  let server: Server;
  let servicePort: number | undefined;
  const activity = new Activity();
  const processes: HelperProcess[] = [];
  const url = (path: string) => `ws://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;

  before(async () => {
    helper = await startHelper();
    container = await startContainer();
    const parts = {
      helper: helper.client,
      container: { state: () => "running" as const, target: () => container.target, onStopped: () => () => {} },
    };
    const dialer = new InsideDialer({ ...parts, lookUp: lookUpInside(helper.client, parts.container), ownNames: () => ["sprite"] });
    const target = new HttpTarget({ ...parts, dialer, targets: { current: async () => servicePort } });
    const endpoints = [new PortsEndpoint({ feed: new PortFeed(parts), dialer, activity }), new IngressEndpoint({ target, activity })];
    server = createServer();
    server.on("upgrade", (request, socket, head) => {
      socket.on("error", () => socket.destroy());
      endpoints.some((endpoint) => endpoint.upgrade(request, socket, head));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(async () => {
    for (const process of processes) process.close();
    server.closeAllConnections();
    server.close();
    await container[Symbol.asyncDispose]();
    const reports = helper.stderr();
    await helper[Symbol.asyncDispose]();
    assert.equal(reports, "", "no sanitizer report");
  });

  async function echo(host: string, port: number): Promise<HelperProcess> {
    const process = await helper.client.exec({
      argv: ["python3", "-c", SERVER, host, String(port)],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      uid: 1000,
      gid: 1000,
      target: container.target,
    });
    processes.push(process);
    process.start({ stdout() {}, stderr() {} });
    await waitFor(async () => {
      try {
        (await helper.client.connectInside(container.target.initPid, [{ address: host, port }])).socket.destroy();
        return true;
      } catch {
        return false;
      }
    }, `a server at ${host}:${port}`);
    return process;
  }

  async function openProxy(first: string): Promise<{ client: WebSocket; answer: { status: string; target?: string; error?: string } }> {
    const client = new WebSocket(url("/v1/sprites/x/proxy"));
    client.on("error", () => {});
    await once(client, "open");
    client.send(first);
    const [data] = await once(client, "message");
    return { client, answer: JSON.parse(String(data)) };
  }

  const received = (client: WebSocket): { bytes: () => Buffer; texts: string[] } => {
    const chunks: Buffer[] = [];
    const texts: string[] = [];
    client.on("message", (data, isBinary) => (isBinary ? chunks.push(data as Buffer) : texts.push(String(data))));
    return { bytes: () => Buffer.concat(chunks), texts };
  };

  test("proxy: bytes unchanged, early ones too; closing ends the connection inside", async () => {
    await echo("127.0.0.1", 5001);
    const bytes = randomBytes(3_000_000);
    const client = new WebSocket(url("/v1/sprites/x/proxy"));
    await once(client, "open");
    const got = received(client);
    // In one segment: the first frame and what follows it are read together.
    const { _socket: tcp } = client as unknown as { _socket: Socket };
    tcp.cork();
    client.send('{"host":"localhost","port":5001}\n');
    client.send(bytes.subarray(0, 1_000));
    tcp.uncork();
    for (let at = 1_000; at < bytes.length; at += 65_536) client.send(bytes.subarray(at, at + 65_536));
    await waitFor(() => got.bytes().length === bytes.length, "all bytes");
    assert.equal(createHash("sha256").update(got.bytes()).digest("hex"), createHash("sha256").update(bytes).digest("hex"));
    assert.deepEqual(JSON.parse(got.texts[0] ?? ""), { status: "connected", target: "127.0.0.1:5001" });
    assert.equal(activity.holders().length, 1, "it keeps the sprite awake");
    client.close();
    await waitFor(() => activity.holders().length === 0, "the hold ends");
  });

  test("proxy: half-closed where both know it", async () => {
    const { client, answer } = await openProxy('{"host":"127.0.0.1","port":5001,"half_close":true}');
    assert.equal(answer.status, "connected");
    const got = received(client);
    client.send(Buffer.from("hello"));
    client.send(EOF_FRAME);
    const [code] = await once(client, "close");
    assert.deepEqual([String(got.bytes()), got.texts, code], ["hello|end", [], 1000]);
  });

  test("proxy: what cannot be is said", async () => {
    const error = async (first: string) => {
      const { client, answer } = await openProxy(first);
      client.terminate();
      return [answer.status, answer.error];
    };
    assert.deepEqual(await error('{"port":5999}'), ["error", "nothing_listens"]);
    assert.deepEqual(await error('{"host":"192.0.2.1","port":80}'), ["error", "host_unreachable"]);
    assert.deepEqual(await error('{"host":"--help","port":80}'), ["error", "host_unreachable"]);
    assert.deepEqual(await error('{"host":"no-such-name.invalid","port":80}'), ["error", "host_unreachable"]);
    for (const first of [
      "",
      "[]",
      "null",
      '{"port":0}',
      '{"port":"22"}',
      '{"host":"","port":1}',
      `{"host":"${"a".repeat(300)}","port":1}`,
    ]) {
      assert.deepEqual(await error(first), ["error", "invalid_request"], first);
    }
  });

  test("ports/watch: the list first, then changes; it does not keep the sprite awake", async () => {
    const client = new WebSocket(url("/v1/sprites/x/ports/watch"));
    const { texts } = received(client);
    await waitFor(() => texts.length === 1, "the list");
    const list = JSON.parse(texts[0] ?? "") as { type: string; ports: { port: number; type: string }[] };
    assert.deepEqual([list.type, list.ports.map(({ port, type }) => [type, port])], ["port_list", [["port_opened", 5001]]]);
    const process = await echo("::1", 5002);
    await waitFor(() => texts.length === 2, "port_opened");
    const { pid, ...opened } = JSON.parse(texts[1] ?? "");
    assert.deepEqual(opened, { type: "port_opened", port: 5002, address: "::1" });
    assert.ok(pid > 1);
    process.signal(9);
    await waitFor(() => texts.length === 3, "port_closed");
    assert.deepEqual(JSON.parse(texts[2] ?? ""), { type: "port_closed", port: 5002, address: "::1", pid });
    assert.deepEqual(activity.holders(), []);
    client.terminate();
  });

  /** Opens a tunnel and says "hi" through it, or gives the error. */
  async function tunnel(): Promise<string> {
    const { port } = server.address() as AddressInfo;
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.write("GET /hob/ingress HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: hob-tunnel\r\n\r\n");
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
      if (text.includes("HTTP/1.1 101") && socket.writable) socket.end("hi");
    });
    await once(socket, "end");
    socket.destroy();
    return text.slice(text.lastIndexOf("\r\n\r\n") + 4);
  }

  test("ingress: the service's port, else 8080, else the one that is there", async () => {
    assert.equal(await tunnel(), "hi|end", "5001 is all there is");
    const usual = await echo("::1", 8080);
    assert.equal(await tunnel(), "hi|end");
    usual.signal(9);
    await waitFor(async () => (await tunnel()) === "hi|end", "back to the port that is left");
    servicePort = 5003;
    const late = echo("127.0.0.1", 5003);
    assert.equal(await tunnel(), "hi|end", "a service that is slow to listen is waited for");
    await late;
    servicePort = undefined;
    for (const process of processes) process.close();
    await waitFor(async () => {
      const answer = await tunnel();
      return answer.startsWith("{") && (JSON.parse(answer) as { error: HobError["code"] }).error === "nothing_listens";
    }, "nothing listens");
    await waitFor(() => activity.holders().length === 0, "the holds end");
  });
});
