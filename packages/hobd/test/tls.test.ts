import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import { readTlsFiles, tlsWarning } from "../src/daemon/tls-files.ts";
import { loadConfig, reloadOnSignal } from "../src/index.ts";
import { TestApplication } from "./support/test-application.ts";
import { TestDaemon } from "./support/test-daemon.ts";

const directory = mkdtempSync(join(tmpdir(), "hobd-tls-"));
after(() => rmSync(directory, { recursive: true, force: true }));
const at = (name: string) => join(directory, name);

function issue(name: string, host = "*.sprites.localhost"): { certFile: string; keyFile: string } {
  const [certFile, keyFile] = [at(`${name}.pem`), at(`${name}.key`)];
  const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${host},DNS:localhost`];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  execFileSync("openssl", ["req", "-x509", ...key, "-days", "2", ...subject, "-keyout", keyFile, "-out", certFile], { stdio: "pipe" });
  return { certFile, keyFile };
}

const first = issue("first");
const second = issue("second");

describe("files of TLS", () => {
  test("a pair that fits is taken", () => {
    const material = readTlsFiles(first);
    assert.equal(material.cert, readFileSync(first.certFile, "utf8"));
    assert.equal(tlsWarning(material, "sprites.localhost", Date.now()), undefined);
    assert.match(tlsWarning(material, "example.com", Date.now()) ?? "", /not valid for \*\.example\.com/);
    assert.match(tlsWarning(material, "sprites.localhost", Date.now() + 4 * 86_400_000) ?? "", /expired/);
  });

  test("what is wrong is said, with the file's name", () => {
    const fails = (files: typeof first, message: RegExp) => assert.throws(() => readTlsFiles(files), { code: "invalid_config", message });
    fails({ ...first, certFile: at("none") }, /read .*none: ENOENT/);
    fails({ ...first, keyFile: directory }, /EISDIR/);
    fails({ certFile: first.keyFile, keyFile: first.keyFile }, /first\.key: it holds no certificate/);
    fails({ certFile: first.certFile, keyFile: first.certFile }, /first\.pem: it holds no private key/);
    fails({ certFile: first.certFile, keyFile: second.keyFile }, /second\.key: it is not the key of the certificate in .*first\.pem/);
    writeFileSync(at("empty"), "");
    fails({ ...first, certFile: at("empty") }, /empty: it holds no certificate/);
    execFileSync("openssl", ["ec", "-aes256", "-passout", "pass:x", "-in", first.keyFile, "-out", at("locked")], { stdio: "pipe" });
    fails({ ...first, keyFile: at("locked") }, /locked: it holds no private key in PEM form, without a passphrase/);
  });

  test("settings: both files or none; an address of its own or another port", () => {
    const env = { HOME: "/h", HOB_LISTEN: "0.0.0.0:80" };
    assert.equal(loadConfig(env).tls, undefined);
    const tls = { certFile: "/a", keyFile: "/b" };
    assert.deepEqual(loadConfig(env, { tlsCert: "/a", tlsKey: "/b" }).tls, { ...tls, listen: { host: "0.0.0.0", port: 7443 } });
    const listen = { host: "::", port: 443 };
    assert.deepEqual(loadConfig({ ...env, HOB_TLS_LISTEN: "[::]:443", HOB_TLS_CERT: "/a", HOB_TLS_KEY: "/b" }).tls, { ...tls, listen });
    for (const flags of [{ tlsCert: "/a" }, { tlsKey: "/b" }, { tlsListen: ":443" }]) {
      assert.throws(() => loadConfig(env, flags), { code: "invalid_config", message: /tls-(cert|key): it is missing/ });
    }
  });
});

describe("a daemon with TLS", () => {
  async function withTls(body: (hob: TestDaemon, url: URL, files: typeof first) => Promise<void>): Promise<void> {
    const files = { certFile: at("live.pem"), keyFile: at("live.key") };
    copyFileSync(first.certFile, files.certFile);
    copyFileSync(first.keyFile, files.keyFile);
    await using hob = await TestDaemon.start({ tls: { ...files, listen: { host: "127.0.0.1", port: 0 } } });
    await body(hob, new URL(hob.daemon.tlsUrl ?? assert.fail()), files);
  }

  async function ask(
    url: URL,
    host: string,
    headers: Record<string, string>,
    path = "/",
  ): Promise<[number, IncomingMessage["headers"], string]> {
    const options = { host: url.hostname, port: url.port, path, servername: host, ca: readFileSync(first.certFile), agent: false };
    const outgoing = request({ ...options, headers: { host, ...headers } });
    outgoing.end();
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    return [answer.statusCode ?? 0, answer.headers, (await answer.toArray()).join("")];
  }

  test("serves the API and the URLs; sprites say https; the cookie is for TLS only", () =>
    withTls(async (hob, url) => {
      await using app = await TestApplication.start();
      hob.pilot.applicationPort = app.port;
      const made = (await (await hob.create("web")).json()) as { url: string };
      assert.equal(made.url, `https://web.sprites.localhost:${url.port}`);
      const [status, , text] = await ask(url, "localhost", hob.headers, "/v1/sprites/web");
      assert.deepEqual([status, JSON.parse(text).name], [200, "web"]);
      assert.equal((await ask(url, "web.sprites.localhost", hob.headers))[0], 200);
      assert.equal(app.seen.at(-1)?.headers["x-forwarded-proto"], "https");
      const ticket = (await (await hob.fetch("/v1/sprites/web/url/ticket", { method: "POST" })).json()) as { url: string };
      const link = new URL(ticket.url);
      const [, headers] = await ask(url, "web.sprites.localhost", {}, link.pathname + link.search);
      const [cookie = ""] = headers["set-cookie"] ?? [];
      assert.match(cookie, /^__Host-hob_url=[^;]+;.*; Secure$/);
      assert.equal((await ask(url, "web.sprites.localhost", { cookie: cookie.split(";")[0] ?? "" }))[0], 200);
    }));

  const served = async (url: URL): Promise<string> => {
    const socket: TLSSocket = connect({ host: url.hostname, port: Number(url.port), servername: "localhost", rejectUnauthorized: false });
    await once(socket, "secureConnect");
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return String(subject.CN);
  };

  test("a new certificate is taken when told to; one that does not fit is not", () =>
    withTls(async (hob, url, files) => {
      assert.equal(await served(url), "first");
      copyFileSync(second.certFile, files.certFile);
      hob.daemon.reload();
      assert.equal(await served(url), "first", "its key is still the other one");
      copyFileSync(second.keyFile, files.keyFile);
      hob.daemon.reload();
      assert.equal(await served(url), "second");
    }));

  test("SIGHUP reads it anew; without TLS that signal is left alone", () =>
    withTls(async (hob, url, files) => {
      const source = new EventEmitter() as EventEmitter & Pick<NodeJS.Process, "on" | "off">;
      copyFileSync(second.certFile, files.certFile);
      copyFileSync(second.keyFile, files.keyFile);
      {
        using _ = reloadOnSignal(hob.daemon, source);
        source.emit("SIGHUP");
        assert.equal(await served(url), "second");
      }
      using _ = reloadOnSignal({ reload: () => assert.fail(), tlsUrl: undefined }, source);
      assert.equal(source.listenerCount("SIGHUP"), 0);
    }));

  test("a connection that never says hello does not hold up the end", () =>
    withTls(async (_, url) => {
      const { connect: plain } = await import("node:net");
      const socket = plain(Number(url.port), url.hostname);
      socket.on("error", () => {});
      await once(socket, "connect");
    }));

  test("files that cannot be used prevent the start", async () => {
    const tls = { certFile: first.certFile, keyFile: second.keyFile, listen: { host: "127.0.0.1", port: 0 } };
    await assert.rejects(TestDaemon.start({ tls }), { code: "invalid_config" });
  });
});
