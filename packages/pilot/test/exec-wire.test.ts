import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LIMITS } from "@hob/protocol";
import { WebSocket } from "ws";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startExecServer } from "./support/exec-server.ts";
import { startHelper, waitFor } from "./support/helper.ts";

interface Received {
  frames: (string | Buffer)[];
  closeCode: number;
}

/** What the SDK does not show: the frames themselves, their order, bad requests, and clients that misbehave. */
describe("exec on the wire", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startExecServer);

  const open = (query: string) => {
    const socket = new WebSocket(`${suite.server.webSocketURL}/exec?${query}`);
    const received: Received = { frames: [], closeCode: 0 };
    socket.on("message", (data, isBinary) => received.frames.push(isBinary ? (data as Buffer) : String(data)));
    const closed = once(socket, "close").then(([code]) => {
      received.closeCode = code;
      return received;
    });
    return { socket, received, closed };
  };
  const script = (text: string, more = "") => `cmd=sh&cmd=-c&cmd=${encodeURIComponent(text)}${more}`;
  const text = (frame: string | Buffer | undefined) => JSON.parse(String(frame));

  test("order of frames without a terminal", async () => {
    const { frames, closeCode } = await open(script("printf out; printf err >&2; exit 9")).closed;
    const info = text(frames[0]);
    assert.deepEqual(Object.keys(info).sort(), ["cols", "command", "created", "is_owner", "rows", "session_id", "tty", "type"]);
    assert.match(info.session_id, /^\d+$/);
    assert.deepEqual([info.type, info.is_owner, info.tty], ["session_info", true, false]);
    const output = frames.slice(1, -2).map(String).sort();
    assert.deepEqual(output, ["\x01out", "\x02err"]);
    assert.deepEqual(frames.at(-2), Buffer.from([3, 9]));
    assert.deepEqual(text(frames.at(-1)), { type: "exit", exit_code: 9, code: 9 });
    assert.equal(closeCode, 1000);
  });

  test("a terminal: raw output, exit as text, close code 4000 + n", async () => {
    const { frames, closeCode } = await open(script("printf raw; exit 9", "&tty=true&cols=100&rows=30")).closed;
    assert.deepEqual([text(frames[0]).cols, text(frames[0]).rows, text(frames[0]).tty], [100, 30, true]);
    assert.equal(Buffer.concat(frames.slice(1, -1) as Buffer[]).toString(), "raw");
    assert.equal(text(frames.at(-1)).exit_code, 9);
    assert.equal(closeCode, 4009);
    assert.equal((await open(script("exit 0", "&tty=true")).closed).closeCode, 1000);
  });

  test("headers of the answer", async () => {
    const { socket, closed } = open("cmd=true");
    const [response] = await once(socket, "upgrade");
    assert.equal(response.headers["x-sprite-capabilities"], "signal");
    assert.match(response.headers["sprite-version"], /^v\d/);
    assert.equal(response.headers["sec-websocket-extensions"], undefined);
    await closed;
  });

  test("stdin=false: an end that the client sends is ignored, input too", async () => {
    const { socket, closed, received } = open(script("cat; echo end", "&stdin=false"));
    await once(socket, "open");
    socket.send(Buffer.from("\0input"));
    socket.send(Buffer.from([4]));
    await closed;
    assert.ok(received.frames.map(String).includes("\x01end\n"));
    assert.ok(!received.frames.map(String).join("").includes("input"));
  });

  test("stdin=true: input without an end keeps the program reading", async () => {
    const { socket, closed, received } = open(script("cat", "&stdin=true"));
    await once(socket, "open");
    socket.send(Buffer.from("\0one"));
    await waitFor(() => received.frames.map(String).includes("\x01one"), "echo");
    await sleep(100);
    assert.equal(socket.readyState, WebSocket.OPEN);
    socket.send(Buffer.from([4]));
    assert.equal((await closed).closeCode, 1000);
  });

  test("unknown streams and text frames change nothing", async () => {
    const { socket, closed } = open(script("cat", "&stdin=true"));
    await once(socket, "open");
    for (const frame of [Buffer.from([5, 1]), Buffer.from([255]), Buffer.alloc(0), Buffer.from([1, 2])]) socket.send(frame);
    for (const frame of ["", "{", '{"type":"nope"}', '{"type":"signal","signal":"NOPE"}', '{"type":"resize","cols":-1,"rows":1e99}'])
      socket.send(frame);
    socket.send(Buffer.from([4]));
    const { frames } = await closed;
    assert.deepEqual(frames.at(-2), Buffer.from([3, 0]));
  });

  test("a message above the limit closes the connection and ends the command", async () => {
    const { socket, closed } = open(`${script("sleep 60")}&stdin=true&max_run_after_disconnect=10ms`);
    await once(socket, "open");
    await waitFor(() => suite.server.endpoint.sessions.size === 1, "session");
    socket.send(Buffer.alloc(LIMITS.webSocketMessageBytes + 1));
    assert.equal((await closed).closeCode, 1009);
    await waitFor(() => suite.server.endpoint.sessions.size === 0, "end of the session");
  });

  test("a client that does not read slows the command down, and gets everything when it does", async () => {
    const { socket, closed, received } = open(script("head -c 30000000 /dev/zero; exit 4"));
    await once(socket, "open");
    socket.pause();
    await sleep(700);
    const before = process.memoryUsage().arrayBuffers;
    await sleep(300);
    assert.ok(process.memoryUsage().arrayBuffers - before < 8_000_000, "no buffering without bound");
    const [session] = suite.server.endpoint.sessions.list();
    assert.ok(session !== undefined, "the command waits for its client");
    socket.resume();
    await closed;
    const bytes = received.frames.reduce((sum, frame) => sum + (frame instanceof Buffer && frame[0] === 1 ? frame.length - 1 : 0), 0);
    assert.equal(bytes, 30_000_000);
    assert.deepEqual(received.frames.at(-2), Buffer.from([3, 4]));
  });

  test("bad requests are refused as JSON, before the upgrade", async () => {
    const cases: [string, number, string][] = [
      ["/v1/sprites/test/exec?env=novalue", 400, "invalid_request"],
      ["/v1/sprites/test/exec?tty=maybe", 400, "invalid_request"],
      ["/v1/sprites/test/control", 404, "not_found"],
    ];
    for (const [path, status, code] of cases) {
      const answer = await upgrade(suite.server.baseURL + path);
      assert.equal(answer.status, status);
      assert.equal(JSON.parse(answer.body).error, code);
    }
    suite.server.setState("stopped");
    const stopped = await upgrade(`${suite.server.baseURL}/v1/sprites/test/exec?cmd=true`);
    suite.server.setState("running");
    assert.equal(JSON.parse(stopped.body).error, "container_stopped");
    assert.equal(stopped.status, 503);
    const posted = await fetch(`${suite.server.baseURL}/v1/sprites/test/exec`, { method: "POST" });
    assert.equal(posted.status, 400);
    const large = await fetch(`${suite.server.baseURL}/v1/sprites/test/exec?cmd=cat&stdin=true`, {
      method: "POST",
      body: Buffer.alloc(10 * 1024 * 1024 + 1),
    });
    assert.equal(large.status, 413);
    assert.equal((await fetch(`${suite.server.baseURL}/v1/sprites/test/control`)).status, 404);
  });

  test("a malformed handshake leaves no process behind", async () => {
    const socket = connect(Number(new URL(suite.server.baseURL).port), "127.0.0.1");
    socket.write("GET /v1/sprites/test/exec?cmd=sleep&cmd=60 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    const [answer] = await once(socket, "data");
    assert.match(String(answer), /^HTTP\/1\.1 400/);
    socket.destroy();
    assert.equal(suite.server.endpoint.sessions.size, 0);
  });

  test("a client that resets the connection at any point harms nobody", async () => {
    for (let delay = 0; delay < 20; delay++) {
      const socket = connect(Number(new URL(suite.server.baseURL).port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write(
        "GET /v1/sprites/test/exec?cmd=yes&max_run_after_disconnect=10ms HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
      );
      await sleep(delay);
      socket.resetAndDestroy();
    }
    await waitFor(() => suite.server.endpoint.sessions.size === 0, "end of all sessions");
    assert.equal((await open("cmd=true").closed).closeCode, 1000);
  });

  test("a silent command gets keepalive frames, after session_info only", { timeout: 20_000 }, async () => {
    const { received, closed, socket } = open(script("sleep 12"));
    await sleep(10_800);
    assert.equal(text(received.frames[0]).type, "session_info");
    assert.deepEqual(text(received.frames[1]), { type: "keepalive" });
    socket.send('{"type":"signal","signal":"KILL"}');
    await closed;
  });

  test("a helper that dies ends its sessions as failed, never as 0", async () => {
    const own = await startHelper();
    const other = await startExecServer(own.client, suite.container);
    try {
      const socket = new WebSocket(`${other.webSocketURL}/exec?cmd=sleep&cmd=60`);
      const frames: Buffer[] = [];
      socket.on("message", (data, isBinary) => isBinary && frames.push(data as Buffer));
      await once(socket, "open");
      const [session] = other.endpoint.sessions.list();
      const { execFileSync } = await import("node:child_process");
      const supervisor = Number(execFileSync("ps", ["-o", "ppid=", "-p", String(session?.process.pid)], { encoding: "utf8" }));
      process.kill(supervisor, "SIGKILL");
      await once(socket, "close");
      assert.deepEqual(frames.at(-1), Buffer.from([3, 255]));
      assert.match(String(frames.at(-2)), /connection to the command was lost/);
      await waitFor(() => !alive(session?.process.pid ?? 0), "end of the process with its supervisor");
    } finally {
      await other[Symbol.asyncDispose]();
      await own[Symbol.asyncDispose]();
    }
  });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function upgrade(url: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    };
    const sent = request(url, { headers });
    sent.on("response", async (response) => {
      let body = "";
      for await (const chunk of response) body += chunk;
      resolve({ status: response.statusCode ?? 0, body });
    });
    sent.on("upgrade", () => reject(new Error("upgraded")));
    sent.on("error", reject);
    sent.end();
  });
}
