import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type RequestListener, request, type Server } from "node:http";
import { type AddressInfo, createServer as createRawServer, type Server as RawServer } from "node:net";
import { describe, test } from "node:test";
import { PILOT_PROTOCOL_VERSION } from "@hob/protocol";
import { pino } from "pino";
import { SpriteStore } from "../../storage/src/store/sprite-store.ts";
import { MemoryStore } from "../../storage/test/support/memory-store.ts";
import { SpriteUses } from "../src/activity/use.ts";
import { createPilotRequester } from "../src/front-door/pilot-locator.ts";
import { isOwnPage } from "../src/ingress/access.ts";
import { foreignCookies, ownCookies } from "../src/ingress/cookies.ts";
import { SignIn } from "../src/ingress/sign-in.ts";
import { pullLogs } from "../src/log-shipping/pull.ts";
import { createRelayServer } from "../src/object-store/relay-server.ts";
import type { SpriteRecord } from "../src/registry/registry.ts";
import { PilotClient } from "../src/runtime/pilot-client.ts";

const LIMIT = { timeout: 20_000 };
const TOKEN = "t".repeat(40);
const SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

async function listening<T extends Server | RawServer>(server: T): Promise<{ port: number } & AsyncDisposable> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      if ("closeAllConnections" in server) server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers whatever is asked with these bytes. */
const raw = (answer: string) =>
  listening(createRawServer((socket) => void socket.on("error", () => {}).once("data", () => socket.end(answer))));
const http = (listener: RequestListener) => listening(createServer(listener));

describe("a pilot that is not what it seems", () => {
  test("answers that break off, or are no HTTP, make it unreachable", LIMIT, async () => {
    for (const answer of [
      "",
      "nonsense\r\n\r\n",
      SWITCH,
      "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    ]) {
      await using pilot = await raw(answer);
      const client = new PilotClient(pilot.port, TOKEN);
      await assert.rejects(client.activity(), { code: "pilot_unreachable" }, answer);
      await assert.rejects(
        client.waitUntilReady(0, () => true),
        { code: "pilot_unreachable" },
        answer,
      );
    }
  });

  test("an answer without an end is not read to it", LIMIT, async () => {
    let sent = 0;
    await using pilot = await http((_request, response) => {
      const chunk = Buffer.alloc(64 * 1024, " ");
      response.on("error", () => {});
      const more = (): void => {
        while (!response.destroyed && response.write(chunk)) sent += chunk.length;
        if (!response.destroyed) response.once("drain", more);
      };
      more();
    });
    const client = new PilotClient(pilot.port, TOKEN);
    await assert.rejects(
      client.waitUntilReady(0, () => true),
      { code: "pilot_unreachable" },
    );
    await assert.rejects(client.prepareSave(), { code: "pilot_unreachable" });
    assert.ok(sent < 64 * 1024 * 1024);
  });

  test("a right answer is taken", LIMIT, async () => {
    const answer = { protocol: PILOT_PROTOCOL_VERSION, version: "1", uptimeMs: 1, pilotPid: 2, bounces: 0, spriteId: "s" };
    await using pilot = await http((_request, response) => void response.end(JSON.stringify(answer)));
    assert.equal((await new PilotClient(pilot.port, TOKEN).waitUntilReady(0, () => true)).protocol, PILOT_PROTOCOL_VERSION);
  });

  test("a change of the protocol that nobody asked for keeps neither a check nor the shipping of logs waiting", LIMIT, async () => {
    await using pilot = await raw(SWITCH);
    const endpoint = { host: "127.0.0.1", port: pilot.port, token: TOKEN, bootId: "b" };
    await assert.rejects(pullLogs(endpoint, {}, new AbortController().signal), /unasked/);
    const ask = createPilotRequester(async () => endpoint, new SpriteUses(Date.now));
    await assert.rejects(ask({ id: "s", name: "box" } as SpriteRecord, "/hob/ready", AbortSignal.timeout(15_000)), {
      code: "pilot_unreachable",
    });
  });

  test("a target of the relay that is no path is its own fault", LIMIT, async () => {
    const takeShare = async () => ({ [Symbol.dispose]() {} });
    const store = new SpriteStore(new MemoryStore(), { org: "org", sprite: "s", owner: "o", epoch: 1 });
    await using relay = await listening(createRelayServer({ store, log: pino({ level: "silent" }), onHead: () => {}, takeShare }));
    for (const path of ["//", "/objects/%ff", "/objects/", "/list?limit=x"]) {
      const { status } = await sendTo(relay.port, path);
      assert.equal(status, 400, path);
    }
  });
});

async function sendTo(port: number, path: string): Promise<{ status: number | undefined }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port, path, agent: false });
    outgoing.once("response", (response) => {
      response.resume();
      resolve({ status: response.statusCode });
    });
    outgoing.once("error", reject).end();
  });
}

test("an Origin that is no URL is nobody's, however long it is", () => {
  const from = (origin: string) =>
    isOwnPage({ method: "POST", headers: { origin, host: "box.sprites.localhost" } } as IncomingMessage, false);
  assert.equal(from("http://box.sprites.localhost"), true);
  for (const origin of ["null", "http://", `http://${"X.cpr".repeat(20_000)}`, `http://${"é.".repeat(50_000)}`])
    assert.equal(from(origin), false);
});

test("a cookie has one form only", () => {
  const signIn = new SignIn(Buffer.alloc(32, 7), () => 1_000_000);
  const { value } = signIn.redeem(signIn.issue("s", "0123456789abcdef").ticket, "s");
  const forms = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"].map((last) => value.slice(0, -1) + last);
  assert.deepEqual(
    forms.filter((form) => signIn.verify(form, "s") !== undefined),
    [value],
  );
});

test("cookies of any length are read in one pass", () => {
  // As much as the head of a request may hold. Looked at again from every space, it would hold the daemon up for minutes.
  const value = `a${" ".repeat(300_000)}b`;
  const before = process.cpuUsage();
  assert.deepEqual(ownCookies(`x=y; hob_url=${value}`), [value]);
  assert.equal(foreignCookies(`x=y; hob_url=${value};z=${value}`), `x=y;z=${value}`);
  assert.ok(process.cpuUsage(before).user < 5_000_000);
});
