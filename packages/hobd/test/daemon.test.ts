import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HOB_VERSION, type HobError } from "@hob/protocol";
import { pino } from "pino";
import { createHomeToken, homeLayout, listHomeTokens, readDaemonInfo, revokeHomeToken, startDaemon, stopOnSignal } from "../src/index.ts";
import { openSqliteRegistry } from "../src/registry/sqlite-registry.ts";
import { ChildDaemon } from "./support/child-daemon.ts";
import { bodyOf, temporaryHome, testConfig, until } from "./support/test-daemon.ts";
import { TestRuntime } from "./support/test-runtime.ts";

const createRuntime = (context: ConstructorParameters<typeof TestRuntime>[0]) => new TestRuntime(context, { pilotPort: () => 1 });

describe("home", () => {
  test("first start makes a token and says where it is; the next start knows both again", async () => {
    await using home = await temporaryHome();
    const first = await startDaemon(testConfig(home.path), { createRuntime });
    const layout = homeLayout(home.path);
    assert.equal(readFileSync(layout.token, "utf8"), `${first.token}\n`);
    assert.equal(statSync(layout.token).mode & 0o777, 0o600);
    assert.equal(statSync(layout.database).mode & 0o777, 0o600);
    const { started_at, ...info } = readDaemonInfo(layout) ?? assert.fail();
    assert.deepEqual(info, { pid: process.pid, url: first.url, version: HOB_VERSION });
    await first.stop();
    assert.equal(existsSync(layout.info), false);
    const second = await startDaemon(testConfig(home.path), { createRuntime });
    assert.equal(second.token, first.token);
    assert.equal((await listHomeTokens(home.path)).length, 1);
    await second.stop();
  });

  test("a token made or revoked beside a running daemon counts at once", async () => {
    await using home = await temporaryHome();
    const daemon = await startDaemon(testConfig(home.path), { createRuntime });
    const status = async (token: string) =>
      (await fetch(`${daemon.url}/v1/sprites`, { headers: { Authorization: `Bearer ${token}` } })).status;
    const { token, id } = await createHomeToken(home.path, "another");
    assert.equal(await status(token), 200);
    await revokeHomeToken(home.path, id);
    assert.equal(await status(token), 401);
    const first = (await listHomeTokens(home.path)).find(({ revokedAt }) => revokedAt === null);
    await revokeHomeToken(home.path, first?.id ?? "");
    await daemon.stop();
    const next = await startDaemon(testConfig(home.path), { createRuntime });
    assert.equal(next.token, undefined);
    await next.stop();
  });

  test("a directory that cannot be used gives one clear error, and nothing is left running", async () => {
    await using home = await temporaryHome();
    writeFileSync(join(home.path, "file"), "");
    await assert.rejects(startDaemon(testConfig(join(home.path, "file", "home")), { createRuntime }), { code: "home_unusable" });
    await assert.rejects(startDaemon(testConfig("/proc/hob"), { createRuntime }), { code: "home_unusable" });
    writeFileSync(join(home.path, "hob.db"), "x".repeat(10_000));
    await assert.rejects(startDaemon(testConfig(home.path), { createRuntime }), { code: "registry_unusable" });
    rmSync(join(home.path, "hob.db"));
    // The failed start holds no lock.
    await (await startDaemon(testConfig(home.path), { createRuntime })).stop();
  });

  test("a runtime that cannot start takes everything down with it", async () => {
    await using home = await temporaryHome();
    const failing = () => Promise.reject(new Error("as the test asked"));
    await assert.rejects(startDaemon(testConfig(home.path), { createRuntime: failing }), /as the test asked/);
    await (await startDaemon(testConfig(home.path), { createRuntime })).stop();
  });

  test("an address that is taken", async () => {
    await using home = await temporaryHome();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await assert.rejects(
      startDaemon(testConfig(home.path, { listen: { host: "127.0.0.1", port } }), { createRuntime }),
      (error: HobError) => {
        assert.deepEqual([error.code, typeof error.hint], ["address_in_use", "string"]);
        return true;
      },
    );
    await assert.rejects(startDaemon(testConfig(home.path, { listen: { host: "192.0.2.1", port: 0 } }), { createRuntime }), {
      code: "invalid_config",
    });
    await new Promise((resolve) => server.close(resolve));
    assert.equal(existsSync(homeLayout(home.path).info), false);
  });
});

describe("one daemon per home", () => {
  test("a second one in this process is refused", async () => {
    await using home = await temporaryHome();
    const daemon = await startDaemon(testConfig(home.path), { createRuntime });
    await assert.rejects(startDaemon(testConfig(home.path), { createRuntime }), { code: "home_locked" });
    assert.equal((await fetch(`${daemon.url}/healthz`)).status, 200);
    await daemon.stop();
  });

  test("a second process is refused with the first one's pid; after kill -9 it takes over", async () => {
    await using home = await temporaryHome();
    await using first = await ChildDaemon.start({ home: home.path, pilotPort: 1 });
    await using second = await ChildDaemon.start({ home: home.path, pilotPort: 1 });
    const [refusal] = second.lines;
    assert.equal(refusal?.code, "home_locked");
    assert(refusal?.message?.includes(`pid ${first.pid}`), refusal?.message);
    assert.equal(await second.exited, 1);
    assert.equal((await first.fetch("/healthz")).status, 200);
    first.kill("SIGKILL");
    await first.exited;
    assert.equal(existsSync(join(home.path, "hobd.json")), true);
    await using third = await ChildDaemon.start({ home: home.path, pilotPort: 1 });
    assert.equal(third.up.token, first.up.token);
    assert.equal(readDaemonInfo(homeLayout(home.path))?.pid, third.pid);
  });
});

describe("crash and stop", () => {
  test("kill -9 in the middle of a create: the next start rolls it back, and adopts what was ready", async () => {
    await using home = await temporaryHome();
    const directories = () => readdirSync(join(home.path, "sprites"));
    const first = await ChildDaemon.start({ home: home.path, pilotPort: 1 });
    const { id } = await bodyOf(await first.create("ready"));
    assert.equal((await first.create("doomed")).status, 201);
    first.kill("SIGKILL");
    await first.exited;

    const second = await ChildDaemon.start({ home: home.path, pilotPort: 1, createMs: 60_000 });
    const lost = assert.rejects(second.create("half"));
    await until("the create has begun", () => second.calls.includes("create half"));
    // Two may be made at a time; the third waits for its turn: it too has a row.
    const more = ["half-2", "half-3"].map((name) => assert.rejects(second.create(name)));
    await until("the rows are there", async () => (await rowsOf(home.path)).length === 5);
    second.kill("SIGKILL");
    await Promise.all([lost, ...more, second.exited]);
    assert.equal(directories().length, 4);
    await markDestroying(home.path, "doomed");

    await using third = await ChildDaemon.start({ home: home.path, pilotPort: 1 });
    assert.deepEqual(third.calls.at(-1), "recover ready");
    assert.equal(third.calls.filter((call) => call.startsWith("destroy ")).length, 4);
    assert.deepEqual(directories(), [id]);
    assert.deepEqual(await rowsOf(home.path), ["ready"]);
    assert.equal((await third.create("half")).status, 201);
    assert.equal((await third.create("doomed")).status, 201);
    assert.equal((await bodyOf(await third.fetch("/v1/sprites/ready"))).id, id);
  });

  test("SIGTERM stops in order and in time, also with a create under way; the home is left clean", async () => {
    await using home = await temporaryHome();
    await using child = await ChildDaemon.start({ home: home.path, pilotPort: 1, createMs: 300 });
    const creating = child.create("one").then(
      (response) => response.status,
      () => "cut",
    );
    await until("the create has begun", () => child.calls.includes("create one"));
    child.kill("SIGTERM");
    assert.equal(await child.exited, 0);
    assert.deepEqual(child.calls.at(-1), "stopAll");
    assert.equal(child.lines.at(-1)?.stopped, true);
    assert.equal(await creating, 201);
    assert.equal(existsSync(join(home.path, "hobd.json")), false);
    assert.deepEqual(await rowsOf(home.path), ["one"]);
  });

  test("a second signal ends the process at once, unless it is the first one again", async () => {
    const source = Object.assign(new EventEmitter(), { statuses: [] as number[], exit: (status: number) => source.statuses.push(status) });
    let stops = 0;
    let now = 0;
    const { promise: stopped, resolve } = Promise.withResolvers<void>();
    const stop = () => {
      stops++;
      return stopped;
    };
    const done = stopOnSignal({ log: pino({ level: "silent" }), stop }, source, () => now);
    source.emit("SIGINT");
    assert.deepEqual([stops, source.statuses], [1, []]);
    now = 900;
    source.emit("SIGINT");
    assert.deepEqual([stops, source.statuses], [1, []], "a wrapper passed it on");
    now = 1_100;
    source.emit("SIGTERM");
    assert.deepEqual([stops, source.statuses], [1, [143]]);
    resolve();
    await done;
    assert.equal(source.listenerCount("SIGINT"), 0);
  });

  test("a destroy that fails is answered, and finished by the next start", async () => {
    await using home = await temporaryHome();
    let broken = true;
    const config = testConfig(home.path);
    const start = () =>
      startDaemon(config, {
        createRuntime: (context) => {
          const runtime = createRuntime(context);
          const destroy = runtime.destroy.bind(runtime);
          runtime.destroy = (id) => (broken ? Promise.reject(new Error("as the test asked")) : destroy(id));
          return runtime;
        },
      });
    const first = await start();
    const headers = { Authorization: `Bearer ${first.token}` };
    const create = async (url: string) => (await fetch(`${url}/v1/sprites`, { method: "POST", headers, body: '{"name":"one"}' })).status;
    assert.equal(await create(first.url), 201);
    assert.equal((await fetch(`${first.url}/v1/sprites/one`, { method: "DELETE", headers })).status, 204);
    assert.equal((await fetch(`${first.url}/v1/sprites/one`, { headers })).status, 404);
    assert.equal(await create(first.url), 201);
    await first.stop();
    assert.equal(readdirSync(join(home.path, "sprites")).length, 2);
    broken = false;
    const second = await start();
    assert.equal(readdirSync(join(home.path, "sprites")).length, 1);
    await second.stop();
  });
});

async function rowsOf(home: string): Promise<string[]> {
  await using registry = openSqliteRegistry(homeLayout(home).database);
  const rows = await Promise.all((["creating", "ready", "destroying"] as const).map((state) => registry.sprites.listByState(state)));
  return rows.flat().map(({ name }) => name);
}

async function markDestroying(home: string, name: string): Promise<void> {
  await using registry = openSqliteRegistry(homeLayout(home).database);
  const record = await registry.sprites.findByName(name);
  assert.equal(await registry.sprites.move(record?.id ?? "", "ready", "destroying", 1), true);
  mkdirSync(join(home, "sprites", record?.id ?? ""), { recursive: true });
}
