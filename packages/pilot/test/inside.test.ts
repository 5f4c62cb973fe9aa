import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { type IncomingHttpHeaders, request, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Hono } from "hono";
import { pino } from "pino";
import { z } from "zod";
import type { Endpoint } from "../src/api/endpoint.ts";
import { readJson } from "../src/api/json-body.ts";
import { createInsideServer, INSIDE_LIMITS, listenInside } from "../src/inside/server.ts";

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

describe("the socket inside", () => {
  const folder = mkdtempSync(join(tmpdir(), "hob-inside-"));
  const path = join(folder, "run/api.sock");
  let server: Server;
  let outside = 0;
  before(async () => {
    const routes = new Hono()
      .get("/thing", (c) => c.json({ thing: true }))
      .post("/thing", async (c) => c.json(await readJson(c, z.object({ a: z.number() }), "make thing")))
      .get("/broken", () => {
        throw new Error("secret detail");
      });
    const endpoints: Endpoint[] = [
      { inside: routes },
      { routes: new Hono().get("/bounce", (c) => c.json({ outside: ++outside })) },
      { upgrade: () => ++outside > 0, handle: () => ++outside > 0 },
    ];
    server = createInsideServer(endpoints, pino({ level: "silent" }), { ...INSIDE_LIMITS, headersTimeoutMs: 500, checkIntervalMs: 100 });
    await listenInside(server, path);
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
    rmSync(folder, { recursive: true, force: true });
  });

  const ask = (method: string, target: string, body?: string, headers: Record<string, string> = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const asked = request({ socketPath: path, method, path: target, headers, agent: false }, async (answer) => {
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: (await answer.toArray()).join("") });
      });
      asked.once("error", reject);
      asked.end(body);
    });

  test("it serves what is meant for the inside, and nothing else", async () => {
    const answer = await ask("GET", "/v1/thing");
    assert.deepEqual([answer.status, answer.body], [200, '{"thing":true}']);
    assert.ok(answer.headers["sprite-version"]);
    for (const target of ["/v1/bounce", "/thing", "/hob/ready", "/v1/sprites/x/thing", "/v1/../v1/bounce", "//v1/thing"]) {
      assert.equal((await ask("GET", target)).status, 404, target);
    }
    const upgrade = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    };
    assert.equal((await ask("GET", "/v1/exec?cmd=id", undefined, upgrade)).status, 404);
    assert.equal(outside, 0);
  });

  test("a body is read whatever host the request names", async () => {
    for (const host of ["999.1.1.1", "a..b", "[::1", "localhost:99999", ""]) {
      assert.equal((await ask("POST", "/v1/thing", '{"a":1}', { host })).status, 200, host);
    }
  });

  test("a fault says nothing of what is behind", async () => {
    const { status, body } = await ask("GET", "/v1/broken");
    assert.equal(status, 500);
    assert.doesNotMatch(body, /secret/);
  });

  test("only root and the sprite's user may open it", () => {
    const { mode, uid, gid } = statSync(path);
    assert.deepEqual([mode & 0o777, uid, gid], [0o660, 1_001_000, 1_001_000]);
  });

  test("bodies and heads that are too large are refused, whatever they say of their length", async () => {
    assert.equal((await ask("POST", "/v1/thing", '{"a":1}')).status, 200);
    assert.equal((await ask("POST", "/v1/thing", "x", { "content-length": "2000000" }).catch(() => ({ status: 413 }))).status, 413);
    const chunked = await ask("POST", "/v1/thing", `{"a":1${" ".repeat(1_100_000)}}`, { "transfer-encoding": "chunked" }).catch(
      () => undefined,
    );
    assert.ok(chunked === undefined || chunked.status === 413);
    assert.equal((await ask("GET", `/v1/thing?${"x".repeat(INSIDE_LIMITS.headerBytes)}`)).status, 431);
    assert.equal((await ask("GET", "/v1/thing")).status, 200);
  });

  test("many connections, and slow ones, take no place for good", { timeout: 30_000 }, async () => {
    const sockets: Socket[] = [];
    for (let i = 0; i < INSIDE_LIMITS.connections + 40; i++) {
      const socket = connect(path);
      socket.on("error", () => {});
      socket.write("GET /v1/thing HTTP/1.1\r\nHost: sprite\r\nX-Slow: ");
      sockets.push(socket);
    }
    const closed = Promise.all(
      sockets.map((socket) => (socket.destroyed ? undefined : new Promise((resolve) => socket.resume().once("close", resolve)))),
    );
    const drip = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write("x");
    }, 200);
    await closed;
    clearInterval(drip);
    assert.equal((await ask("GET", "/v1/thing")).status, 200);
  });

  test("a socket that is in the way is replaced", async () => {
    const other = join(folder, "other/api.sock");
    const first = createInsideServer([], pino({ level: "silent" }));
    await listenInside(first, other);
    // As after kill -9: the file is there, nobody listens.
    const second = createInsideServer([], pino({ level: "silent" }));
    await listenInside(second, other);
    first.close();
    second.close();
  });

  describe("sprite-env", () => {
    let program: string;
    before(() => {
      program = join(folder, "sprite-env");
      const env = { ...process.env, CFLAGS: "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all" };
      const build = new URL("../../../native/build.sh", import.meta.url).pathname;
      try {
        execFileSync(build, [program, "sprite-env"], { stdio: "pipe", env });
      } catch {
        execFileSync(build, [program, "sprite-env"], { stdio: "pipe" });
      }
      assert.ok(existsSync(program));
    });

    const run = (
      args: string[],
      socket: string,
      env: Record<string, string> = {},
    ): Promise<{ code: number; stdout: string; stderr: string }> =>
      new Promise((resolve) => {
        const environment = { PATH: process.env.PATH ?? "", SPRITE_API_SOCKET: socket, ASAN_OPTIONS: "detect_leaks=0", ...env };
        execFile(program, args, { env: environment, timeout: 20_000 }, (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr });
        });
      });

    /** A server that notes what it was asked and answers as the test says. */
    async function withApi(
      answer: { status?: number; body: string; raw?: string },
      body: (socket: string, seen: string[]) => Promise<void>,
    ): Promise<void> {
      const { createServer } = await import("node:http");
      const seen: string[] = [];
      const socket = join(folder, `api-${Math.floor(performance.now())}.sock`);
      const api = createServer(async (incoming, outgoing) => {
        seen.push(`${incoming.method} ${incoming.url} ${(await incoming.toArray()).join("")}`.trim());
        if (answer.raw !== undefined) {
          incoming.socket.end(answer.raw);
          return;
        }
        outgoing.writeHead(answer.status ?? 200);
        for (const part of answer.body.match(/.{1,7}/gs) ?? []) outgoing.write(part);
        outgoing.end();
      }).listen(socket);
      await once(api, "listening");
      try {
        await body(socket, seen);
      } finally {
        api.closeAllConnections();
        api.close();
      }
    }

    test("each command asks what it should", async () => {
      await withApi({ body: '{"type":"started"}\n' }, async (socket, seen) => {
        const cases: [args: string[], expected: string][] = [
          [["services", "list"], "GET /v1/services"],
          [["services", "get", "a b"], "GET /v1/services/a%20b"],
          [["services", "start", "web", "--duration", "1m"], "POST /v1/services/web/start?duration=1m"],
          [["services", "stop", "web", "--timeout=3s"], "POST /v1/services/web/stop?timeout=3s"],
          [["services", "restart", "--no-stream", "web"], "POST /v1/services/web/restart?duration=0"],
          [["services", "logs", "web", "--lines", "3"], "GET /v1/services/web/logs?lines=3"],
          [["services", "delete", "web"], "DELETE /v1/services/web"],
          [["services", "signal", "web", "HUP"], 'POST /v1/services/signal {"name":"web","signal":"HUP"}'],
          [
            [
              "services",
              "create",
              "web",
              "--cmd",
              "python3",
              "--args",
              "-m,http.server,a\\,b",
              "--env",
              "A=1,B=x=y",
              "--needs",
              "db",
              "--http-port",
              "80",
            ],
            'PUT /v1/services/web {"cmd":"python3","args":["-m","http.server","a,b"],"env":{"A":"1","B":"x=y"},"needs":["db"],"http_port":80}',
          ],
          [
            ["services", "create", "web", "--dir", '/a"b', "--", "sh", "-c", 'echo "\\\n\u0001ü"'],
            'PUT /v1/services/web {"cmd":"sh","args":["-c","echo \\"\\\\\\u000a\\u0001ü\\""],"needs":[],"dir":"/a\\"b"}',
          ],
          [["services", "create", "web", "--cmd", "x", "--args", ""], 'PUT /v1/services/web {"cmd":"x","args":[],"needs":[]}'],
          [["checkpoints", "list"], "GET /v1/checkpoints"],
          [["checkpoints", "create", "--comment", "before"], 'POST /v1/checkpoint {"comment":"before"}'],
          [["checkpoints", "get", "v1"], "GET /v1/checkpoints/v1"],
          [["checkpoints", "restore", "v1"], "POST /v1/checkpoints/v1/restore"],
          [["tasks", "list"], "GET /v1/tasks"],
          [["tasks", "create", "t"], 'POST /v1/tasks {"name":"t","expire":"1h"}'],
          [["tasks", "update", "t", "--expire", "5m"], 'PUT /v1/tasks/t {"name":"t","expire":"5m"}'],
          [["tasks", "delete", "t"], "DELETE /v1/tasks/t"],
          [["info"], "GET /v1/info"],
          [["curl", "-X", "PUT", "/v1/x?y=1", "-d", "{}"], "PUT /v1/x?y=1 {}"],
        ];
        for (const [args, expected] of cases) {
          const { code, stderr } = await run(args, socket);
          assert.deepEqual([code, seen.at(-1)], [0, expected], stderr);
        }
        assert.equal((await run(["curl", "-X", "PUT", "/v1/x", "-d", "{}"], socket, { PATH: "/nowhere" })).code, 0, "without curl");
        assert.equal(seen.at(-1), "PUT /v1/x {}");
      });
    });

    test("answers are shown; errors are explained, and are failures", async () => {
      await withApi({ body: "[1,\n2]" }, async (socket) =>
        assert.deepEqual(await run(["services", "list"], socket), { code: 0, stdout: "[1,\n2]\n", stderr: "" }),
      );
      const error = JSON.stringify({ limit: 5, error: "conflict", message: 'no "good"\tü', hint: "wait" });
      await withApi({ status: 409, body: error }, async (socket) => {
        assert.deepEqual(await run(["services", "list"], socket), {
          code: 1,
          stdout: "",
          stderr: 'sprite-env: no "good"\tü\nhint: wait\n',
        });
      });
      const lines = '{"type":"started","timestamp":1}\n{"type":"error","data":"no such program","timestamp":2}\n';
      await withApi({ body: lines }, async (socket) => {
        assert.deepEqual(await run(["services", "start", "x"], socket), { code: 1, stdout: lines, stderr: "" });
        assert.deepEqual(await run(["services", "start", "x", "--no-stream"], socket), {
          code: 1,
          stdout: "",
          stderr: "sprite-env: no such program\n",
        });
      });
    });

    test("answers that are cut or make no sense are failures, never a crash or a hang", async () => {
      const answers = [
        "",
        "HTTP/1.1",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 garbage\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",
        `HTTP/1.1 200 OK\r\nX: ${"y".repeat(70_000)}\r\n\r\n`,
        'HTTP/1.1 500 No\r\n\r\n{"message":"cut \\u00',
        '{"message":',
      ];
      for (const raw of answers) {
        await withApi({ body: "", raw }, async (socket) => assert.equal((await run(["info"], socket)).code, 1, raw.slice(0, 80)));
      }
      assert.match((await run(["info"], join(folder, "none.sock"))).stderr, /none\.sock: No such file or directory/);
    });

    test("wrong command lines end with 2 and do nothing", async () => {
      for (const args of [
        [],
        ["nope"],
        ["services"],
        ["services", "nope"],
        ["services", "get"],
        ["services", "get", "a", "b"],
        ["services", "list", "--nope"],
        ["services", "create", "a"],
        ["services", "create", "a", "--cmd"],
        ["services", "create", "a", "--cmd", "x", "--", "y"],
        ["services", "create", "a", "--cmd", "x", "--env", "novalue"],
        ["services", "create", "a", "--cmd", "x", "--http-port", "1x"],
        ["services", "create", "a", "--cmd", "x", "--http-port", "080"],
        ["tasks", "create"],
        ["checkpoints", "restore"],
      ]) {
        assert.equal((await run(args, join(folder, "none.sock"))).code, 2, args.join(" "));
      }
      for (const args of [
        ["--help"],
        ["services", "--help"],
        ["services", "create", "-h"],
        ["tasks", "-h"],
        ["checkpoints", "-h"],
        ["curl", "--help"],
      ]) {
        const { code, stdout } = await run(args, "");
        assert.equal(code, 0, args.join(" "));
        assert.match(stdout, /Usage: /);
      }
    });
  });
});
