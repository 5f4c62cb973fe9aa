import assert from "node:assert/strict";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { ChildDaemon } from "./support/child-daemon.ts";
import { temporaryHome, until } from "./support/test-daemon.ts";
import { TestPilot } from "./support/test-pilot.ts";

const MB = 1024 * 1024;
const BYTES = 200 * MB;
/** What may lie in the daemon's streams and in the kernel's socket buffers on the way. */
const IN_FLIGHT_MAX = 32 * MB;
/** V8 lets about 64 MB of read buffers become garbage before it collects them; the amounts sent are well above. */
const RSS_GROWTH_MAX = 96 * MB;

/** The daemon is a process of its own, so that its memory can be told from the test's. */
async function withDaemon(body: (child: ChildDaemon, pilot: TestPilot) => Promise<void>): Promise<void> {
  await using home = await temporaryHome();
  await using pilot = await TestPilot.start();
  await using child = await ChildDaemon.start({ home: home.path, pilotPort: pilot.port });
  assert.equal((await child.create("one")).status, 201);
  await (await child.fetch("/v1/sprites/one/echo")).text();
  await body(child, pilot);
}

describe("a slow side holds the other back, and nothing piles up in the daemon", () => {
  test("a client that does not read 200 MB", () =>
    withDaemon(async (child, pilot) => {
      const before = child.rssBytes;
      const response = await open(child, "GET", `/v1/sprites/one/firehose?bytes=${BYTES}`);
      await settled(() => pilot.sentBytes);
      assert(pilot.sentBytes < IN_FLIGHT_MAX, `the pilot sent ${pilot.sentBytes} bytes`);
      assert(child.rssBytes - before < RSS_GROWTH_MAX, `it grew by ${child.rssBytes - before} bytes`);
      let received = 0;
      let peak = 0;
      for await (const chunk of response) {
        received += chunk.length;
        if (received % (20 * MB) < chunk.length) peak = Math.max(peak, child.rssBytes);
      }
      assert.equal(received, BYTES);
      assert(peak - before < RSS_GROWTH_MAX, `it grew by ${peak - before} bytes while streaming`);
    }));

  test("a pilot that does not read an upload", () =>
    withDaemon(async (child, pilot) => {
      const before = child.rssBytes;
      const { url, token } = child.up;
      const outgoing = httpRequest(`${url}/v1/sprites/one/clog`, { method: "POST", headers: { Authorization: `Bearer ${token}` } });
      outgoing.on("error", () => {});
      let taken = 0;
      const chunk = Buffer.alloc(MB);
      const write = () => {
        while (taken < BYTES && outgoing.write(chunk)) taken += chunk.length;
        taken += chunk.length;
      };
      outgoing.on("drain", write);
      write();
      await until("it has begun", () => pilot.readBytes > 0);
      await settled(() => taken);
      assert(taken < IN_FLIGHT_MAX, `${taken} bytes were taken`);
      assert(child.rssBytes - before < RSS_GROWTH_MAX, `it grew by ${child.rssBytes - before} bytes`);
      outgoing.destroy();
    }));

  test("a WebSocket whose client does not read its echo", () =>
    withDaemon(async (child) => {
      const before = child.rssBytes;
      const { url, token } = child.up;
      const ws = new WebSocket(`${url.replace("http", "ws")}/v1/sprites/one/ws`, { headers: { Authorization: `Bearer ${token}` } });
      await new Promise((resolve) => ws.once("open", resolve));
      ws.pause();
      const chunk = Buffer.alloc(MB);
      let done = 0;
      for (let i = 0; i < BYTES / MB; i++) ws.send(chunk, () => (done += chunk.length));
      // The pilot reads what is sent; only the echo has no reader.
      await until("everything is sent", () => done === BYTES, 20_000);
      await settled(() => child.rssBytes);
      assert(child.rssBytes - before < RSS_GROWTH_MAX, `it grew by ${child.rssBytes - before} bytes`);
      ws.terminate();
    }));
});

const open = (child: ChildDaemon, method: string, path: string) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const { url, token } = child.up;
    httpRequest(`${url}${path}`, { method, headers: { Authorization: `Bearer ${token}` } }, resolve)
      .on("error", reject)
      .end();
  });

/** Resolves when the figure has not changed for a while. */
async function settled(figure: () => number): Promise<void> {
  for (let last = -1, quiet = 0; quiet < 8; ) {
    quiet = figure() === last ? quiet + 1 : 0;
    last = figure();
    await sleep(100);
  }
}
