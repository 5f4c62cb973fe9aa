import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { SPRITE_VERSION } from "@hob/protocol";
import { WebSocket } from "ws";
import { TestDaemon, until } from "./support/test-daemon.ts";

const PATH = "/v1/sprites/one";

async function withSprite(body: (hob: TestDaemon) => Promise<void>): Promise<void> {
  await using hob = await TestDaemon.start();
  assert.equal((await hob.create("one")).status, 201);
  await body(hob);
}

const webSocket = (hob: TestDaemon, path: string, headers = hob.headers) =>
  new WebSocket(`${hob.url.replace("http", "ws")}${path}`, { headers, perMessageDeflate: false });

const opened = (ws: WebSocket) => new Promise<WebSocket>((resolve, reject) => ws.once("open", () => resolve(ws)).once("error", reject));
const message = (ws: WebSocket) => new Promise<Buffer>((resolve) => ws.once("message", (data) => resolve(data as Buffer)));
const closed = (ws: WebSocket) => new Promise<number>((resolve) => ws.once("close", resolve).on("error", () => {}));

/** The HTTP answer to an upgrade that is refused. */
const refusal = (ws: WebSocket) =>
  new Promise<{ response: IncomingMessage; body: string }>((resolve, reject) => {
    ws.on("error", reject).on("open", () => reject(new Error("it was accepted")));
    ws.once("unexpected-response", (_request, response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk)).on("end", () => resolve({ response, body }));
    });
  });

describe("WebSockets", () => {
  test("pass both ways, with what was sent early on either side", () =>
    withSprite(async (hob) => {
      const ws = webSocket(hob, `${PATH}/greet?cmd=x`);
      const upgrade = new Promise<IncomingMessage>((resolve) => ws.once("upgrade", resolve));
      const greeting = message(ws);
      await opened(ws);
      assert.equal((await upgrade).headers["sprite-version"], SPRITE_VERSION);
      assert.equal(String(await greeting), "hello at once");
      const binary = randomBytes(900_000);
      ws.send(binary);
      assert.deepEqual(await message(ws), binary);
      assert.equal(hob.pilot.seen.at(-1)?.headers.authorization, `Bearer ${[...hob.runtime.tokens.values()][0]}`);
      ws.send("close");
      assert.equal(await closed(ws), 4007);
      await until("both sides are closed", () => hob.pilot.connectionCount === 0);
    }));

  test("an upgrade whose connection is lost before the answer is asked for again, under the same name", () =>
    withSprite(async (hob) => {
      await opened(webSocket(hob, `${PATH}/shy`));
      const names = hob.pilot.seen.map(({ headers }) => headers["hob-request-id"]);
      assert.equal(names.length, 2);
      assert.match(String(names[0]), /^[0-9a-f-]{36}$/);
      assert.equal(names[1], names[0]);
    }));

  test("a frame that comes in one segment with the upgrade request is not lost", () =>
    withSprite(async (hob) => {
      const answer = await new Promise<string>((resolve) => {
        let all = "";
        const socket = connect(Number(new URL(hob.url).port), "127.0.0.1");
        const head = `GET ${PATH}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer ${hob.token}\r\n\r\n`;
        const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
        socket.write(Buffer.concat([Buffer.from(head), frame]));
        socket.on("data", (chunk) => {
          all += chunk.toString("latin1");
          if (all.endsWith("\x81\x02hi")) socket.destroy();
        });
        socket.on("close", () => resolve(all));
      });
      assert.match(answer, /^HTTP\/1\.1 101 /);
    }));

  test("are refused before the upgrade, with a JSON body", () =>
    withSprite(async (hob) => {
      const cases: [string, Record<string, string>, number, string][] = [
        [`${PATH}/ws`, {}, 401, "unauthorized"],
        ["/v1/sprites/none/exec", hob.headers, 404, "not_found"],
        [`${PATH}/refuse`, hob.headers, 400, "nop"],
      ];
      for (const [path, headers, status, error] of cases) {
        const { response, body } = await refusal(webSocket(hob, path, headers));
        assert.equal(response.statusCode, status);
        assert.equal(response.headers["sprite-version"], SPRITE_VERSION);
        assert(body.includes(error), body);
      }
      assert.equal(hob.pilot.seen.filter(({ url }) => url.includes("none")).length, 0);
      assert.equal(hob.pilot.webSocketCount, 0);
    }));

  test("end with the pilot, and end the pilot's side with the client", () =>
    withSprite(async (hob) => {
      const dying = await opened(webSocket(hob, `${PATH}/ws`));
      dying.send("die");
      assert.equal(await closed(dying), 1006);
      const leaving = await opened(webSocket(hob, `${PATH}/ws`));
      await until("it is there", () => hob.pilot.connectionCount === 1);
      leaving.terminate();
      await until("the pilot's side is closed", () => hob.pilot.connectionCount === 0);
    }));

  test("fifty at once each get their own bytes, and leave nothing behind", () =>
    withSprite(async (hob) => {
      const sockets = await Promise.all(Array.from({ length: 50 }, () => opened(webSocket(hob, `${PATH}/ws`))));
      await Promise.all(
        sockets.map(async (ws) => {
          for (let round = 0; round < 20; round++) {
            const bytes = randomBytes(1 + ((round * 997) % 5_000));
            ws.send(bytes);
            assert.deepEqual(await message(ws), bytes);
          }
        }),
      );
      assert.equal(hob.pilot.webSocketCount, 50);
      const ends = sockets.map(closed);
      for (const ws of sockets) ws.close();
      await Promise.all(ends);
      await until("all are closed", () => hob.pilot.connectionCount === 0);
    }));

  test("a stop of the daemon ends sessions and streams in bounded time", () =>
    withSprite(async (hob) => {
      const ws = await opened(webSocket(hob, `${PATH}/ws`));
      const stream = await hob.fetch(`${PATH}/silent`);
      const end = closed(ws);
      const startedAt = Date.now();
      const stop = hob.daemon.stop();
      await assert.rejects(stream.text());
      await end;
      await stop;
      assert(Date.now() - startedAt < 4_000);
      assert.equal(hob.runtime.calls.at(-1), "stopAll");
      await assert.rejects(fetch(`${hob.url}/healthz`));
    }));

  test("nothing of a query string, a token or an environment is in the log", () =>
    withSprite(async (hob) => {
      await hob.create("two", { environment: { PASSWORD: "env-secret" } });
      await (await hob.fetch(`${PATH}/echo?env=query-secret`)).text();
      await (await hob.fetch(`${PATH}/half?env=query-secret`)).text().catch(() => {});
      await (await hob.fetch(`${PATH}/shy?env=query-secret`, { method: "POST", body: "x" })).text();
      await (await hob.fetch("/v1/sprites?env=query-secret&max_results=x")).text();
      const ws = await opened(webSocket(hob, `${PATH}/ws?cmd=query-secret`));
      ws.terminate();
      await refusal(webSocket(hob, "/v1/sprites/none/exec?cmd=query-secret"));
      const log = readFileSync(join(hob.home, "hobd.log"), "utf8");
      assert(log.includes("request refused"));
      for (const secret of ["query-secret", "env-secret", hob.token, ...hob.runtime.tokens.values()])
        assert.equal(log.includes(secret), false);
    }));
});
