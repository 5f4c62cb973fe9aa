import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HobError, type LogsPullResponse, type ShippedBlock } from "@hob/protocol";
import { loadConfig } from "../src/daemon/config.ts";
import { TestDaemon, until } from "./support/test-daemon.ts";

interface TestServer extends AsyncDisposable {
  port: number;
}

async function serve(answer: (request: IncomingMessage, response: ServerResponse, body: string) => void): Promise<TestServer> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    answer(request, response, Buffer.concat(chunks).toString());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A pilot's log that grows: what a pull gets is what stands behind its cursor; without news it waits for ever. */
class TestLog {
  readonly blocks: ShippedBlock[] = [];
  pulls = 0;
  /** instead of the truth */
  lie: ((response: ServerResponse) => void) | undefined;
  readonly #waiting = new Set<() => void>();

  write(text: string, service = "web"): void {
    this.blocks.push({ service, stream: "stdout", timeMs: 1_780_420_274_555, text });
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  answer = (request: IncomingMessage, response: ServerResponse, body: string): void => {
    this.pulls++;
    if (this.lie !== undefined) {
      this.lie(response);
      return;
    }
    assert.equal(request.url, "/hob/logs");
    const { cursor } = JSON.parse(body) as { cursor: LogsPullResponse["cursor"] };
    const from = cursor.web?.offset ?? 0;
    const send = () => {
      const next: LogsPullResponse = {
        blocks: this.blocks.slice(from, from + 3),
        cursor: { web: { segment: "1.1", offset: Math.min(from + 3, this.blocks.length) } },
      };
      response.end(JSON.stringify(next));
    };
    if (from < this.blocks.length) send();
    else this.#waiting.add(send);
  };
}

class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hob-ship-"));
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

const textsIn = (path: string): string[] =>
  existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => (JSON.parse(line) as { text: string }).text)
    : [];

test("a file gets every line once and in order, also when it is renamed and when the daemon is another", async () => {
  using folder = new Folder();
  const path = join(folder.path, "services.log");
  const log = new TestLog();
  await using pilot = await serve(log.answer);
  const config = { logSink: { kind: "file" as const, path } };
  await using daemon = await TestDaemon.start(config, { pilotPort: () => pilot.port });
  assert.equal((await daemon.create("box")).status, 201);
  for (let i = 0; i < 10; i++) log.write(`a${i}\nb${i}\n`);
  await until("all lines", () => textsIn(path).length === 20);
  assert.deepEqual(textsIn(path), Array.from({ length: 10 }, (_, i) => [`a${i}`, `b${i}`]).flat());
  const first = JSON.parse(readFileSync(path, "utf8").split("\n")[0] ?? "") as Record<string, string>;
  assert.deepEqual(Object.keys(first), ["time", "sprite", "sprite_id", "service", "stream", "text"]);
  assert.deepEqual([first.time, first.sprite, first.service, first.stream], ["2026-06-02T17:11:14.555Z", "box", "web", "stdout"]);
  renameSync(path, `${path}.1`);
  const [id = ""] = daemon.runtime.statuses.keys();
  daemon.runtime.setStatus(id, "warm");
  log.write("while it sleeps\n");
  const calls = daemon.runtime.calls.length;
  daemon.runtime.setStatus(id, "running");
  await until("the rest", () => textsIn(path).length === 1);
  assert.deepEqual(textsIn(path), ["while it sleeps"], "from where it was");
  assert.ok(daemon.runtime.calls.length > calls);
});

test("a sprite that sleeps is not asked, and not woken", async () => {
  using folder = new Folder();
  const log = new TestLog();
  await using pilot = await serve(log.answer);
  await using daemon = await TestDaemon.start({ logSink: { kind: "file", path: join(folder.path, "x") } }, { pilotPort: () => pilot.port });
  await daemon.create("box");
  await until("it is asked", () => log.pulls > 0);
  const [id = ""] = daemon.runtime.statuses.keys();
  daemon.runtime.setStatus(id, "warm");
  const calls = daemon.runtime.calls.length;
  log.write("news\n");
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(daemon.runtime.calls.length, calls);
  assert.equal(daemon.runtime.status(id), "warm");
});

test("a collector gets OTLP; what it cannot take now comes again, what it will never take does not", async () => {
  const log = new TestLog();
  await using pilot = await serve(log.answer);
  const bodies: string[] = [];
  const statuses = [503, 200, 400, 200];
  await using collector = await serve((request, response, body) => {
    assert.equal(`${request.method} ${request.url}`, "POST /v1/logs");
    bodies.push(body);
    response.writeHead(statuses.shift() ?? 200).end("{}");
  });
  const config = { logSink: { kind: "otlp" as const, url: `http://127.0.0.1:${collector.port}` } };
  await using daemon = await TestDaemon.start(config, { pilotPort: () => pilot.port });
  await daemon.create("box");
  log.write("one\ntwo\n");
  await until("a second try", () => bodies.length === 2, 10_000);
  assert.equal(bodies[0], bodies[1]);
  const [resource] = (
    JSON.parse(bodies[0] ?? "") as { resourceLogs: { resource: { attributes: object[] }; scopeLogs: { logRecords: object[] }[] }[] }
  ).resourceLogs;
  assert.deepEqual(resource?.resource.attributes.slice(0, 2), [
    { key: "service.name", value: { stringValue: "web" } },
    { key: "hob.sprite.name", value: { stringValue: "box" } },
  ]);
  assert.deepEqual(resource?.scopeLogs[0]?.logRecords[1], {
    timeUnixNano: "1780420274555000000",
    observedTimeUnixNano: "1780420274555000000",
    body: { stringValue: "two" },
    attributes: [{ key: "log.iostream", value: { stringValue: "stdout" } }],
  });
  log.write("refused\n");
  await until("the refusal", () => bodies.length === 3);
  log.write("next\n");
  await until("the next", () => bodies.length === 4);
  assert.match(bodies[3] ?? "", /next/);
  assert.doesNotMatch(bodies[3] ?? "", /refused/);
});

test("a hostile pilot cannot do more than be tried again, ever later", async () => {
  using folder = new Folder();
  const path = join(folder.path, "x");
  const lies = [
    "{",
    "null",
    '{"blocks":7,"cursor":{}}',
    JSON.stringify({ blocks: [], cursor: { a: { segment: "x".repeat(1000), offset: 0 } } }),
    JSON.stringify({ blocks: [{ service: "x".repeat(65), stream: "stdout", timeMs: 1, text: "" }], cursor: {} }),
    "x".repeat(3_000_000),
  ];
  for (const lie of lies) {
    const log = new TestLog();
    log.lie = (response) => void response.end(lie);
    await using pilot = await serve(log.answer);
    await using daemon = await TestDaemon.start({ logSink: { kind: "file", path } }, { pilotPort: () => pilot.port });
    await daemon.create("box");
    await until("it is asked", () => log.pulls > 0);
    assert.equal((await daemon.fetch("/v1/sprites/box")).status, 200);
    assert.equal(log.pulls, 1);
  }
  assert.deepEqual(textsIn(path), []);
});

test("the setting says what it wants", () => {
  const sinkOf = (text: string) => loadConfig({ HOME: "/h", HOB_LOG_SINK: text }).logSink;
  assert.deepEqual(sinkOf("file:/var/log/x"), { kind: "file", path: "/var/log/x" });
  assert.deepEqual(sinkOf("otlp+https://collector:4318"), { kind: "otlp", url: "https://collector:4318" });
  assert.equal(loadConfig({ HOME: "/h" }).logSink, undefined);
  for (const text of ["nonsense", "file:", "otlp+ftp://x", "http://x"]) {
    assert.throws(
      () => sinkOf(text),
      (error) => error instanceof HobError && error.code === "invalid_config" && /otlp\+http/.test(error.hint ?? ""),
      text,
    );
  }
});
