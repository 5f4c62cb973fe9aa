import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { SPRITE_VERSION } from "@hob/protocol";
import { WebSocket } from "ws";
import { revokeHomeToken } from "../src/index.ts";
import { parseToken } from "../src/tokens/token-format.ts";
import { TestApplication } from "./support/test-application.ts";
import { TestDaemon, until } from "./support/test-daemon.ts";

interface Site {
  hob: TestDaemon;
  app: TestApplication;
  port: number;
  host: string;
}

async function withSite(auth: "sprite" | "public", body: (site: Site) => Promise<void>): Promise<void> {
  await using app = await TestApplication.start();
  await using hob = await TestDaemon.start();
  hob.pilot.applicationPort = app.port;
  assert.equal((await hob.create("web", { url_settings: { auth } })).status, 201);
  const port = Number(new URL(hob.url).port);
  await body({ hob, app, port, host: `web.sprites.localhost:${port}` });
}

interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
  trailers: NodeJS.Dict<string>;
}

function begin({ port, host }: Site, path: string, options: RequestOptions & { cookies?: string; token?: string } = {}) {
  const { cookies, token, headers, ...rest } = options;
  return httpRequest({
    host: "127.0.0.1",
    port,
    path,
    agent: false,
    ...rest,
    headers: {
      host,
      ...(cookies === undefined ? {} : { cookie: cookies }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(headers as Record<string, string>),
    },
  });
}

async function ask(site: Site, path: string, options: Parameters<typeof begin>[2] & { send?: string | Buffer } = {}): Promise<Answer> {
  const { send, ...rest } = options;
  const outgoing = begin(site, path, rest);
  outgoing.end(send);
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
  const body = Buffer.concat(await answer.toArray());
  return { status: answer.statusCode ?? 0, headers: answer.headers, body, trailers: answer.trailers };
}

const signIn = async (site: Site, sprite = "web"): Promise<string> => {
  const made = await site.hob.fetch(`/v1/sprites/${sprite}/url/ticket`, { method: "POST" });
  assert.equal(made.status, 201);
  const { url } = (await made.json()) as { url: string };
  return url;
};

async function cookieOf(site: Site): Promise<string> {
  const link = new URL(await signIn(site));
  const answer = await ask(site, link.pathname + link.search);
  assert.equal(answer.status, 303);
  return answer.headers["set-cookie"]?.[0]?.split(";")[0] ?? assert.fail();
}

describe("what passes through a sprite's URL", () => {
  test("method, target, headers and body both ways; hop-by-hop headers and trailers do not", () =>
    withSite("public", async (site) => {
      const { app, host } = site;
      const answer = await ask(site, "/a/../b%2F?x=1&x=%zz", { method: "PUT", send: "hi", headers: { "X-Mine": "1", TE: "trailers" } });
      assert.deepEqual([answer.status, String(answer.body), answer.headers["x-app"]], [200, "PUT /a/../b%2F?x=1&x=%zz", "yes"]);
      assert.equal(answer.headers["sprite-version"], undefined, "the answer is the application's");
      const seen = app.seen.at(-1)?.headers ?? {};
      assert.deepEqual([seen.host, seen["x-mine"], seen.te, seen["content-length"]], [host, "1", undefined, "2"]);
      assert.deepEqual([seen["x-forwarded-for"], seen["x-forwarded-host"], seen["x-forwarded-proto"]], ["127.0.0.1", host, "http"]);
      const hop = await ask(site, "/hop");
      assert.deepEqual(
        [hop.headers["x-private"], hop.headers["proxy-authenticate"], hop.headers.trailer],
        [undefined, undefined, undefined],
      );
      assert.deepEqual([hop.headers["set-cookie"], hop.trailers], [["a=1", "b=2"], {}]);
      assert.equal((await ask(site, "/teapot")).status, 418);
    }));

  test("every method, HEAD without a body and with the length", () =>
    withSite("public", async (site) => {
      for (const method of ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"]) {
        assert.equal(String((await ask(site, "/m", { method })).body), `${method} /m`);
      }
      const head = await ask(site, "/bytes/12345", { method: "HEAD" });
      assert.deepEqual([head.status, head.body.length, head.headers["content-length"]], [200, 0, "12345"]);
      assert.equal(String((await ask(site, "*", { method: "OPTIONS" })).body), "OPTIONS *");
    }));

  test("large bodies of known and unknown length, both ways", () =>
    withSite("public", async (site) => {
      const bytes = randomBytes(20 * 1024 * 1024);
      const digest = createHash("sha256").update(bytes).digest("hex");
      assert.equal(String((await ask(site, "/hash", { method: "POST", send: bytes })).body), digest);
      const chunked = begin(site, "/hash", { method: "POST", headers: { "Transfer-Encoding": "chunked" } });
      for (let at = 0; at < bytes.length; at += 1 << 20)
        if (!chunked.write(bytes.subarray(at, at + (1 << 20)))) await once(chunked, "drain");
      chunked.end();
      const [answer] = (await once(chunked, "response")) as [IncomingMessage];
      assert.equal(String(Buffer.concat(await answer.toArray())), digest);
      assert.equal((await ask(site, `/bytes/${bytes.length}`)).body.length, bytes.length);
    }));

  test("events come as they are made, and the application learns that the reader has gone", () =>
    withSite("public", async (site) => {
      const outgoing = begin(site, "/events");
      outgoing.end();
      const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
      assert.equal(String((await once(answer, "data"))[0]), "data: 1\n\n");
      answer.on("error", () => {});
      outgoing.on("error", () => {}).destroy();
      await until("the application's connection ends", () => site.app.seen.at(-1)?.method === "CLOSED");
    }));

  test("a reader that stops stops the application; an answer that is cut is cut for the reader too", () =>
    withSite("public", async (site) => {
      const outgoing = begin(site, "/cut");
      outgoing.end();
      const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
      await assert.rejects(answer.toArray(), { code: "ECONNRESET" });
    }));

  test("100-continue is the application's to give", () =>
    withSite("public", async (site) => {
      const headers = { Expect: "100-continue", "Content-Length": "5" };
      const given = begin(site, "/yes", { method: "POST", headers });
      given.flushHeaders();
      await once(given, "continue");
      given.end("hello");
      const [answer] = (await once(given, "response")) as [IncomingMessage];
      assert.equal(String(Buffer.concat(await answer.toArray())), "got hello");
      const refused = begin(site, "/no-body", { method: "POST", headers });
      let continued = false;
      refused.on("continue", () => {
        continued = true;
      });
      refused.on("error", () => {}).flushHeaders();
      const [no] = (await once(refused, "response")) as [IncomingMessage];
      assert.deepEqual([no.statusCode, continued], [413, false]);
      refused.destroy();
    }));

  test("WebSockets, both ways and what came early; a refusal is the application's", () =>
    withSite("public", async (site) => {
      const client = new WebSocket(`ws://127.0.0.1:${site.port}/chat?x=1`, { headers: { host: site.host } });
      assert.equal(String((await once(client, "message"))[0]), "welcome");
      const bytes = randomBytes(1_000_000);
      client.send(bytes);
      assert.ok(((await once(client, "message"))[0] as Buffer).equals(bytes));
      assert.equal(site.app.seen.at(-1)?.headers.host, site.host);
      const closed = once(client, "close");
      client.close();
      await closed;
      const refused = new WebSocket(`ws://127.0.0.1:${site.port}/no`, { headers: { host: site.host } });
      const [error] = await once(refused, "error").catch((thrown) => [thrown]);
      assert.match(String(error), /403/);
    }));

  test("kept connections are shared, and one that the application just closed costs nobody anything", () =>
    withSite("public", async (site) => {
      for (let i = 0; i < 20; i++) assert.equal((await ask(site, "/")).status, 200);
      assert.equal(site.hob.pilot.tunnels, 1);
      for (let i = 0; i < 5; i++) assert.equal((await ask(site, "/once")).status, 200);
      assert.equal((await ask(site, "/", { method: "POST" })).status, 200);
      const { tunnels } = site.hob.pilot;
      assert.equal((await ask(site, "/", { method: "POST" })).status, 200);
      assert.equal(site.hob.pilot.tunnels, tunnels + 1, "what may have an effect goes through a connection of its own");
    }));

  test("what the application does wrong is told, to people and to programs", () =>
    withSite("public", async (site) => {
      const died = await ask(site, "/die", { headers: { accept: "text/html" } });
      assert.deepEqual([died.status, died.headers["hob-error"]], [502, "app_failed"]);
      assert.match(String(died.body), /^<!doctype html>/);
      site.hob.pilot.applicationPort = undefined;
      site.app.server.closeAllConnections();
      await until("nothing listens", async () => (await ask(site, "/")).headers["hob-error"] === "nothing_listens");
      const nothing = await ask(site, "/");
      assert.deepEqual([nothing.status, JSON.parse(String(nothing.body)).error], [502, "nothing_listens"]);
      const page = await ask(site, "/", { headers: { accept: "text/html,*/*" } });
      assert.ok(String(page.body).includes("&#60;b&#62;"), "a guest's words are text");
      assert.match(String(page.headers["content-security-policy"]), /default-src 'none'/);
    }));
});

describe("which host leads where", () => {
  test("names below the domain are sprites, all others the API; neither shows the other", () =>
    withSite("public", async (site) => {
      const { hob, port } = site;
      const status = async (host: string, path = "/healthz") => (await ask({ ...site, host }, path)).headers["sprite-version"];
      for (const host of ["127.0.0.1", `localhost:${port}`, "", "sprites.localhost", "xsprites.localhost", "[::1]:1", "my_box"]) {
        assert.equal(await status(host), SPRITE_VERSION, `${host} is the API`);
      }
      for (const host of ["web.sprites.localhost", "WEB.Sprites.LocalHost.", `web.sprites.localhost.:${port}`]) {
        assert.equal(await status(host), undefined, `${host} is the application`);
        const answer = await ask({ ...site, host }, "/v1/sprites", { token: hob.token });
        assert.equal(String(answer.body), "GET /v1/sprites");
      }
      for (const host of ["a.web.sprites.localhost", "-.sprites.localhost", ".sprites.localhost", "we_b.sprites.localhost"]) {
        const answer = await ask({ ...site, host }, "/v1/sprites", { token: hob.token });
        assert.deepEqual([answer.status, JSON.parse(String(answer.body)).error], [404, "not_found"], host);
      }
    }));

  const raw = async (port: number, text: string): Promise<string> => {
    const socket = connect(port, "127.0.0.1");
    // A half-closed connection is a closed one to node:http, which answers bad requests at once and others later.
    if (text.includes("Connection: close")) socket.write(text);
    else socket.end(text);
    return Buffer.concat(await socket.toArray()).toString("latin1");
  };

  test("hosts that two readers could understand differently are refused", () =>
    withSite("public", async ({ port, app }) => {
      const before = app.seen.length;
      const bad = [
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost\r\nHost: 127.0.0.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nhost: web.sprites.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@web.sprites.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost, 127.0.0.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost:80:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web%2esprites.localhost\r\n\r\n",
        "GET http://web.sprites.localhost@evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost: web.sprites.localhost\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n",
      ];
      for (const text of bad) assert.match(await raw(port, text), /^HTTP\/1\.1 400 /, text);
      assert.equal(app.seen.length, before, "the application has seen nothing of it");
    }));

  test("a target in absolute form is worth more than the header", () =>
    withSite("public", async ({ port, app }) => {
      const answer = await raw(port, "GET http://web.sprites.localhost:1/p?q HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
      assert.match(answer, /GET \/p\?q\r\n/);
      assert.equal(app.seen.at(-1)?.headers.host, "web.sprites.localhost:1");
      const api = await raw(port, "GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: web.sprites.localhost\r\nConnection: close\r\n\r\n");
      assert.match(api, /"ok":true/);
    }));
});

describe("who may see a private URL", () => {
  test("nobody without a token or a sign-in, and a stranger does not learn which sprites there are", () =>
    withSite("sprite", async (site) => {
      const { app, hob } = site;
      const none = await ask(site, "/");
      assert.deepEqual([none.status, JSON.parse(String(none.body)).error, app.seen.length], [401, "unauthorized", 0]);
      const missing = { ...site, host: "nosuch.sprites.localhost" };
      assert.equal((await ask(missing, "/")).status, 401);
      assert.equal((await ask(missing, "/", { token: hob.token })).status, 404);
      assert.match(String((await ask(site, "/", { headers: { accept: "text/html" } })).body), /hob url web --open/);
      const wrong = hob.token.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
      assert.equal((await ask(site, "/", { token: wrong })).status, 401);
      const client = new WebSocket(`ws://127.0.0.1:${site.port}/`, { headers: { host: site.host } });
      assert.match(String(await once(client, "error").catch((error) => error)), /401/);
    }));

  test("a token opens it and does not reach the application; another Authorization does", () =>
    withSite("sprite", async (site) => {
      const { app, hob } = site;
      assert.equal((await ask(site, "/", { token: hob.token })).status, 200);
      assert.equal(app.seen.at(-1)?.headers.authorization, undefined);
      const cookies = await cookieOf(site);
      assert.equal((await ask(site, "/", { cookies, headers: { authorization: "Basic YTpi" } })).status, 200);
      assert.equal(app.seen.at(-1)?.headers.authorization, "Basic YTpi");
      await hob.fetch("/v1/sprites/web", { method: "PUT", json: { url_settings: { auth: "public" } } });
      assert.equal((await ask(site, "/", { token: hob.token })).status, 200);
      assert.equal(app.seen.at(-1)?.headers.authorization, undefined, "nor where it was not needed");
      await hob.fetch("/v1/sprites/web", { method: "PUT", json: { url_settings: { auth: "sprite" } } });
      assert.equal((await ask(site, "/")).status, 401, "the change is live");
    }));

  test("a ticket works once, for its sprite, and only by GET; the cookie is the host's own and hidden from the application", () =>
    withSite("sprite", async (site) => {
      const { app } = site;
      assert.equal((await site.hob.create("other")).status, 201);
      const link = new URL(await signIn(site));
      assert.equal(link.host, site.host);
      const target = link.pathname + link.search;
      assert.equal((await ask(site, target, { method: "HEAD" })).status, 405);
      const first = await ask(site, target);
      assert.deepEqual([first.status, first.headers.location, first.headers["referrer-policy"]], [303, "/", "no-referrer"]);
      const [setCookie = ""] = first.headers["set-cookie"] ?? [];
      assert.match(setCookie, /^hob_url=[\w.-]+; Max-Age=\d+; Path=\/; HttpOnly; SameSite=Lax$/);
      assert.equal((await ask(site, target)).status, 401, "used");
      const foreign = new URL(await signIn(site, "other"));
      assert.equal((await ask(site, foreign.pathname + foreign.search)).status, 401, "another sprite's");
      const cookies = setCookie.split(";")[0];
      assert.equal((await ask(site, "/", { cookies: `a=1; ${cookies}; b="2;3"` })).status, 200);
      assert.equal(app.seen.at(-1)?.headers.cookie, 'a=1; b="2;3"');
      assert.equal((await ask(site, "/", { cookies: cookies ?? "" })).status, 200);
      assert.equal(app.seen.at(-1)?.headers.cookie, undefined);
      assert.equal((await ask({ ...site, host: "other.sprites.localhost" }, "/", { cookies: cookies ?? "" })).status, 401);
      assert.ok(!app.seen.some(({ url }) => url.startsWith("/.hob")));
      const log = readFileSync(join(site.hob.home, "hobd.log"), "utf8");
      for (const secret of [link.searchParams.get("ticket"), cookies?.split("=")[1]]) assert.ok(secret && !log.includes(secret));
    }));

  test("forged cookies, and one planted beside the right one", () =>
    withSite("sprite", async (site) => {
      const cookies = await cookieOf(site);
      const [id, expires, mac] = cookies.slice("hob_url=".length).split(".");
      const later = `hob_url=${id}.${Number(expires) + 1}.${mac}`;
      const bad = [
        later,
        `hob_url=${"0".repeat(16)}.${expires}.${mac}`,
        `hob_url=${id}.${expires}.${"A".repeat(43)}`,
        "hob_url=",
        "hob_url",
      ];
      for (const cookie of bad) assert.equal((await ask(site, "/", { cookies: cookie })).status, 401, cookie);
      assert.equal((await ask(site, "/", { cookies: `hob_url=planted; ${cookies}` })).status, 200);
      assert.equal(site.app.seen.at(-1)?.headers.cookie, undefined);
      await revokeHomeToken(site.hob.home, parseToken(site.hob.token)?.id ?? "");
      assert.equal((await ask(site, "/", { cookies })).status, 401, "its token was revoked");
    }));

  test("a page of another host cannot act with the cookie", () =>
    withSite("sprite", async (site) => {
      const cookies = await cookieOf(site);
      const status = async (headers: Record<string, string>, method = "GET") => (await ask(site, "/", { cookies, headers, method })).status;
      assert.equal(await status({ origin: `http://${site.host}` }, "POST"), 200);
      assert.equal(await status({ origin: "http://evil.sprites.localhost" }, "POST"), 401);
      assert.equal(await status({ origin: "null" }, "POST"), 401);
      assert.equal(await status({ "sec-fetch-site": "same-origin" }, "POST"), 200);
      assert.equal(await status({ "sec-fetch-site": "same-site" }, "POST"), 401);
      assert.equal(await status({ "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script" }), 401);
      assert.equal(await status({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }), 200);
      assert.equal(await status({ "sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe" }), 401);
      const headers = { host: site.host, cookie: cookies, origin: "http://evil.sprites.localhost" };
      const foreign = new WebSocket(`ws://127.0.0.1:${site.port}/`, { headers });
      assert.match(String(await once(foreign, "error").catch((error) => error)), /401/);
      const own = new WebSocket(`ws://127.0.0.1:${site.port}/`, { headers: { ...headers, origin: `http://${site.host}` } });
      await once(own, "message");
      own.terminate();
    }));

  test("the key survives a restart of the daemon, sign-out ends a sign-in", () =>
    withSite("sprite", async (site) => {
      const out = await ask(site, "/.hob/sign-out");
      assert.match(out.headers["set-cookie"]?.[0] ?? "", /^hob_url=; Max-Age=0/);
      assert.equal((await ask(site, "/.hob/what")).status, 404);
      assert.match(readFileSync(join(site.hob.home, "url.key"), "utf8"), /^[0-9a-f]{64}\n$/);
    }));
});
