import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { SPRITE_VERSION } from "@hob/protocol";
import fc from "fast-check";
import { bodyOf, TestDaemon } from "./support/test-daemon.ts";

describe("list, update, delete, check", () => {
  test("pages visit every sprite once, in order of name", async () => {
    await using hob = await TestDaemon.start();
    const names = ["a", "a-1", "a0", "ab", "b", "b-c", "c", "zz"];
    for (const name of names) await hob.create(name);
    const page = fc.integer({ min: 1, max: 10 });
    const prefixes = fc.constantFrom("", "a", "b", "a-", "zz", "none");
    await fc.assert(
      fc.asyncProperty(prefixes, fc.array(page, { minLength: 1 }), async (prefix, sizes) => {
        const seen: string[] = [];
        let token = "";
        for (let i = 0; ; i++) {
          const query = new URLSearchParams({ prefix, max_results: String(sizes[i % sizes.length]), continuation_token: token });
          const body = await bodyOf(await hob.fetch(`/v1/sprites?${query}`));
          seen.push(...body.sprites.map((sprite: { name: string }) => sprite.name));
          assert.equal(body.has_more, body.next_continuation_token !== undefined);
          if (!body.has_more) break;
          token = body.next_continuation_token;
        }
        assert.deepEqual(
          seen,
          names.filter((name) => name.startsWith(prefix)),
        );
      }),
      { numRuns: 25 },
    );
    const { org, ...counts } = await bodyOf(await hob.fetch("/v1/sprites?max_results=3"));
    assert.deepEqual([counts.name, counts.running, org.name, org.running, org.running_limit], ["hob", 3, "hob", 8, 100]);
    for (const query of ["max_results=0", "max_results=501", "max_results=x", "continuation_token=x", `prefix=${"x".repeat(64)}`]) {
      assert.equal((await hob.fetch(`/v1/sprites?${query}`)).status, 400, query);
    }
  });

  test("PUT changes what is named and answers with the sprite", async () => {
    await using hob = await TestDaemon.start();
    await hob.create("one", { labels: ["a"] });
    const put = async (json: object) => {
      const response = await hob.fetch("/v1/sprites/one", { method: "PUT", json });
      const body = await bodyOf(response);
      return [response.status, body.labels, body.url_settings];
    };
    assert.deepEqual(await put({}), [200, ["a"], { auth: "sprite" }]);
    assert.deepEqual(await put({ url_settings: { private_access: "org_users" } }), [
      200,
      ["a"],
      { auth: "sprite", private_access: "org_users" },
    ]);
    assert.deepEqual(await put({ url_settings: { auth: "public" }, labels: ["b", "c"] }), [
      200,
      ["b", "c"],
      { auth: "public", private_access: "org_users" },
    ]);
    assert.deepEqual((await put({ clear_labels: true }))[1], undefined);
    assert.equal((await hob.fetch("/v1/sprites/one", { method: "PUT", json: { labels: "x" } })).status, 400);
    assert.equal((await hob.fetch("/v1/sprites/none", { method: "PUT", json: {} })).status, 404);
  });

  test("DELETE answers 204 once, frees the name, and removes everything", async () => {
    await using hob = await TestDaemon.start();
    await hob.create("one");
    const statuses = await Promise.all([1, 2, 3].map(async () => (await hob.fetch("/v1/sprites/one", { method: "DELETE" })).status));
    assert.deepEqual(statuses.sort(), [204, 404, 404]);
    assert.deepEqual(readdirSync(join(hob.home, "sprites")), []);
    assert.equal((await hob.create("one")).status, 201);
  });

  test("check asks a running sprite's pilot and leaves a sleeping one asleep", async () => {
    await using hob = await TestDaemon.start();
    const { id } = await bodyOf(await hob.create("one"));
    const check = async () => bodyOf(await hob.fetch("/v1/sprites/one/check"));
    const healthy = await check();
    assert.deepEqual([healthy.sprite_name, healthy.sprite_id, healthy.status], ["one", id, "healthy"]);
    assert.equal(hob.pilot.seen.at(-1)?.url, "/hob/ready");
    hob.pilot.acceptedToken = "another";
    assert.equal((await check()).status, "unhealthy");
    hob.runtime.setStatus(id, "warm");
    assert.equal((await check()).status, "sleeping");
    assert.equal(hob.runtime.status(id), "warm");
  });

  test("the watch stream: what is there, then each change", async () => {
    await using hob = await TestDaemon.start();
    const { id } = await bodyOf(await hob.create("one"));
    const response = await hob.fetch("/v1/sprites?prefix=o", { headers: { Accept: "application/x-ndjson" } });
    assert.equal(response.headers.get("content-type"), "application/x-ndjson");
    const lines = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const next = async () => {
      while (!text.includes("\n")) text += (await lines?.read())?.value ?? assert.fail("the stream ended");
      const [line = "", ...rest] = text.split("\n");
      text = rest.join("\n");
      const { type, name, status, org } = JSON.parse(line);
      return [type, name, status, org.running];
    };
    assert.deepEqual(await next(), ["snapshot", "one", "running", 1]);
    hob.runtime.setStatus(id, "warm");
    assert.deepEqual(await next(), ["status", "one", "warm", 0]);
    await hob.create("other");
    assert.deepEqual((await next()).slice(0, 2), ["created", "other"]);
    await hob.create("unseen");
    await hob.fetch("/v1/sprites/one", { method: "DELETE" });
    assert.deepEqual((await next()).slice(0, 2), ["deleted", "one"]);
    const ended = lines?.closed;
    await hob.daemon.stop();
    await ended?.catch(() => {});
  });
});

describe("the protocol around it", () => {
  test("401 without a token that is known, on every /v1 route, before anything else is told", async () => {
    await using hob = await TestDaemon.start();
    await hob.create("one");
    for (const path of [
      "/v1/sprites",
      "/v1/sprites/one",
      "/v1/sprites/none",
      "/v1/nothing",
      "/v1/sprites/one/echo",
      "/v1/sprites/none/echo",
    ]) {
      for (const headers of [{}, { Authorization: "Bearer x" }, { Authorization: `Bearer ${hob.token}x` }] as Record<string, string>[]) {
        const response = await fetch(`${hob.url}${path}`, { headers });
        assert.deepEqual([response.status, (await bodyOf(response)).error], [401, "unauthorized"], path);
        assert.equal(response.headers.get("sprite-version"), SPRITE_VERSION);
      }
    }
    assert.equal(hob.pilot.seen.length, 0);
  });

  test("404 and 405 are JSON; /healthz needs no token", async () => {
    await using hob = await TestDaemon.start();
    await hob.create("one");
    const cases: [string, string, number, string | null][] = [
      ["GET", "/", 404, null],
      ["GET", "/v1/nothing", 404, null],
      ["GET", "/v1/sprites/none", 404, null],
      ["GET", "/v1/sprites/no.dots", 404, null],
      ["GET", "/v1/sprites/a%2F..%2Fb", 404, null],
      ["DELETE", "/v1/sprites/none", 404, null],
      ["GET", "/v1/sprites/none/check", 404, null],
      ["PATCH", "/v1/sprites", 405, "GET, HEAD, POST"],
      ["DELETE", "/v1/sprites", 405, "GET, HEAD, POST"],
      ["POST", "/v1/sprites/one", 405, "GET, HEAD, PUT, DELETE"],
      ["POST", "/v1/sprites/one/check", 405, "GET, HEAD"],
      ["POST", "/healthz", 405, "GET, HEAD"],
      ["GET", "/v1/sprites/%zz", 400, null],
    ];
    for (const [method, path, status, allow] of cases) {
      const response = await hob.fetch(path, { method });
      assert.deepEqual([response.status, response.headers.get("allow")], [status, allow], `${method} ${path}`);
      assert.equal(response.headers.get("sprite-version"), SPRITE_VERSION);
      assert.equal(typeof (await bodyOf(response)).error, "string");
    }
    const health = await fetch(`${hob.url}/healthz`);
    assert.deepEqual([health.status, (await bodyOf(health)).ok], [200, true]);
  });

  test("hostile bytes get a short answer or a closed connection, never a stack trace or a hang", async () => {
    await using hob = await TestDaemon.start();
    await hob.create("one");
    const auth = `Authorization: Bearer ${hob.token}\r\n`;
    const upgrade =
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    const cases: [string, RegExp][] = [
      ["garbage\r\n\r\n", /^HTTP\/1\.1 400 /],
      [`GET /v1/sprites/../../hob/ready HTTP/1.1\r\nHost: x\r\n${auth}\r\n`, /^HTTP\/1\.1 400 /],
      [`GET /v1/sprites/one/../../../hob/ready HTTP/1.1\r\nHost: x\r\n${auth}\r\n`, /^HTTP\/1\.1 400 /],
      [`GET /v1/sprites/one/%2e%2e/x HTTP/1.1\r\nHost: x\r\n${auth}\r\n`, /^HTTP\/1\.1 400 /],
      [`GET /v1/sprites/%zz/echo HTTP/1.1\r\nHost: x\r\n${auth}\r\n`, /^HTTP\/1\.1 400 /],
      [`GET /x HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(500_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
      [`GET /v1/sprites/one/echo?${"y".repeat(300_000)} HTTP/1.1\r\nHost: x\r\n${auth}Connection: close\r\n\r\n`, /^HTTP\/1\.1 413 /],
      [
        `POST /v1/sprites HTTP/1.1\r\nHost: x\r\n${auth}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
        /^HTTP\/1\.1 400 /,
      ],
      [`POST /v1/sprites HTTP/1.1\r\nHost: x\r\n${auth}Content-Length: -1\r\n\r\n`, /^HTTP\/1\.1 400 /],
      [`GET /v1/sprites HTTP/1.1\r\nHost: x\r\n${auth}${upgrade}Connection: close\r\n\r\n`, /^HTTP\/1\.1 200 /],
      [`GET /healthz HTTP/1.1\r\nHost: x\r\n${upgrade}Connection: close\r\n\r\n`, /^HTTP\/1\.1 200 /],
      [`GET /v1/sprites/none/exec HTTP/1.1\r\nHost: x\r\n${auth}${upgrade}\r\n`, /^HTTP\/1\.1 404 [\s\S]*"error":"not_found"/],
      [`GET /v1/sprites/one/exec HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, /^HTTP\/1\.1 401 [\s\S]*"error":"unauthorized"/],
      [`GET /v1/sprites/no.dots/exec HTTP/1.1\r\nHost: x\r\n${auth}${upgrade}\r\n`, /^HTTP\/1\.1 404 /],
      [`GET /v1/sprites/../exec HTTP/1.1\r\nHost: x\r\n${auth}${upgrade}\r\n`, /^HTTP\/1\.1 400 /],
      [`OPTIONS * HTTP/1.1\r\nHost: x\r\n${auth}Connection: close\r\n\r\n`, /^HTTP\/1\.1 400 /],
      [`GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nConnection: close\r\n\r\n`, /^HTTP\/1\.1 200 /],
    ];
    for (const [bytes, expected] of cases) {
      const answer = await exchange(new URL(hob.url).port, bytes);
      assert.match(answer, expected, bytes.slice(0, 80));
      assert.match(answer, /\r\nSprite-Version: /i, bytes.slice(0, 80));
      assert(!answer.includes(".ts:"), answer);
    }
    assert.deepEqual(hob.pilot.seen, []);
  });
});

/** Sends bytes and gives what comes until the server closes, or stops talking. */
function exchange(port: string, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(Number(port), "127.0.0.1", () => socket.write(bytes));
    socket.setTimeout(400, () => {
      socket.destroy();
      if (answer === "") reject(new Error(`no answer to ${bytes.slice(0, 80)}`));
      resolve(answer);
    });
    socket.on("data", (chunk) => (answer += chunk));
    socket.on("error", () => resolve(answer));
    socket.on("close", () => resolve(answer));
  });
}
