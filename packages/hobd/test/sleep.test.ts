import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { HobError } from "@hob/protocol";
import { WebSocket } from "ws";
import { describeUse, SpriteUses } from "../src/activity/use.ts";
import { CreateRate } from "../src/api/create-rate.ts";
import { bodyOf, TestDaemon, until } from "./support/test-daemon.ts";

const IDLE = { idleTimeoutSeconds: 0.2 };

async function status(hob: TestDaemon, name: string): Promise<string> {
  return (await bodyOf(await hob.fetch(`/v1/sprites/${name}`))).status;
}
const activity = async (hob: TestDaemon, name: string) => bodyOf(await hob.fetch(`/v1/sprites/${name}/activity`));
const post = (hob: TestDaemon, name: string, route: string, json: object = {}) =>
  hob.fetch(`/v1/sprites/${name}/${route}`, { method: "POST", json });
const sleeps = (hob: TestDaemon, name: string) => hob.runtime.calls.filter((call) => call === `sleep ${name}`).length;
const isAsleep = (hob: TestDaemon, name: string) => until(`${name} sleeps`, async () => (await status(hob, name)) === "warm");

async function socketTo(hob: TestDaemon, route: string): Promise<WebSocket> {
  const socket = new WebSocket(`${hob.url.replace("http", "ws")}/v1/sprites/one/${route}`, { headers: hob.headers });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return socket;
}

describe("sleep by itself", () => {
  test("a sprite that nobody uses sleeps; a request wakes it, is answered, and is named as the reason", async () => {
    await using hob = await TestDaemon.start(IDLE);
    await hob.create("one");
    assert.equal((await activity(hob, "one")).last_wake.reason, "start");
    await isAsleep(hob, "one");
    assert.equal((await hob.fetch("/v1/sprites/one/echo?secret=1")).status, 200);
    const { last_wake, idle_timeout_seconds } = await activity(hob, "one");
    assert.deepEqual([last_wake.reason, idle_timeout_seconds], ["GET /echo", 0.2]);
    await isAsleep(hob, "one");
    const sprite = await bodyOf(await hob.fetch("/v1/sprites/one"));
    assert.ok(Date.parse(sprite.last_warming_at) >= Date.parse(sprite.last_running_at));
  });

  test("an open connection and a request under way hold it; a watcher does not", async () => {
    await using hob = await TestDaemon.start(IDLE);
    await hob.create("one");
    const socket = await socketTo(hob, "exec/ws?cmd=secret");
    const { holders, sleeps_at, idle_since } = await activity(hob, "one");
    assert.deepEqual([holders.length, holders[0].kind, holders[0].label, sleeps_at, idle_since], [1, "exec", "GET /exec/ws", null, null]);
    assert.equal((await post(hob, "one", "sleep")).status, 409);
    await sleep(600);
    assert.equal(await status(hob, "one"), "running");
    socket.close();
    await isAsleep(hob, "one");
    const slow = new AbortController();
    const silent = await hob.fetch("/v1/sprites/one/silent", { signal: slow.signal });
    await sleep(600);
    assert.equal(await status(hob, "one"), "running");
    slow.abort();
    await silent.text().catch(() => {});
    await isAsleep(hob, "one");
    const watcher = await socketTo(hob, "ports/watch");
    await isAsleep(hob, "one");
    watcher.terminate();
  });

  test("what its pilot reports holds it, and is told", async () => {
    await using hob = await TestDaemon.start(IDLE);
    hob.runtime.inside.set("one", { holders: [{ kind: "task", label: "build", since: 5 }], idleMs: 0 });
    await hob.create("one");
    await sleep(600);
    assert.equal(await status(hob, "one"), "running");
    assert.deepEqual((await activity(hob, "one")).holders, [{ kind: "task", label: "build", since: new Date(5).toISOString() }]);
    const refused = await post(hob, "one", "sleep");
    const { error, message } = await bodyOf(refused);
    assert.deepEqual([refused.status, error], [409, "conflict"]);
    assert.match(message, /task build/);
    hob.runtime.inside.delete("one");
    await isAsleep(hob, "one");
  });

  test("a request that comes while its pilot decides keeps it awake, also if it is over by then", async () => {
    const deciding = Promise.withResolvers<void>();
    const decide = Promise.withResolvers<void>();
    let asked = 0;
    await using hob = await TestDaemon.start(IDLE, {
      onPrepareSleep: () => {
        asked++;
        deciding.resolve();
        return decide.promise;
      },
    });
    await hob.create("one");
    await deciding.promise;
    assert.equal((await hob.fetch("/v1/sprites/one/echo")).status, 200);
    decide.resolve();
    await until("it sleeps later", () => sleeps(hob, "one") === 1);
    assert.ok(asked >= 2, "the first decision did not stand");
    const { last_wake } = await activity(hob, "one");
    assert.equal(last_wake.reason, "start", "it did not sleep in between");
  });

  test("a sprite's own idle time wins over the daemon's; 0 keeps it awake, null takes it back", async () => {
    await using hob = await TestDaemon.start(IDLE);
    const made = await bodyOf(await hob.create("one", { idle_timeout_seconds: 0 }));
    assert.equal(made.idle_timeout_seconds, 0);
    await sleep(600);
    assert.equal(await status(hob, "one"), "running");
    assert.deepEqual([(await activity(hob, "one")).sleeps_at, (await activity(hob, "one")).idle_timeout_seconds], [null, 0]);
    const changed = await bodyOf(await hob.fetch("/v1/sprites/one", { method: "PUT", json: { idle_timeout_seconds: null } }));
    assert.equal(changed.idle_timeout_seconds, undefined);
    await isAsleep(hob, "one");
    for (const bad of [-1, 1.5, "30", 1e9]) {
      assert.equal((await hob.fetch("/v1/sprites/one", { method: "PUT", json: { idle_timeout_seconds: bad } })).status, 400, String(bad));
    }
  });

  test("what the object store lacks of a sleeping sprite is told, until it wakes", async () => {
    await using hob = await TestDaemon.start(IDLE);
    hob.runtime.lags.set("one", { lagMs: 5_000, checkpoints: 2, error: "x".repeat(9_000) });
    await hob.create("one");
    assert.equal((await activity(hob, "one")).behind, null);
    await isAsleep(hob, "one");
    await until("it is told", async () => (await activity(hob, "one")).behind !== null);
    const { behind } = await activity(hob, "one");
    assert.ok(Date.now() - Date.parse(behind.since) >= 5_000);
    assert.deepEqual([behind.checkpoints, behind.error.length], [2, 500]);
    hob.runtime.lags.delete("one");
    await hob.fetch("/v1/sprites/one/echo");
    assert.equal((await activity(hob, "one")).behind, null);
    await isAsleep(hob, "one");
    assert.equal((await activity(hob, "one")).behind, null);
  });

  test("asking about a sprite, and checking it, does not keep it awake", async () => {
    await using hob = await TestDaemon.start(IDLE);
    await hob.create("one");
    await until("it sleeps", async () => {
      await hob.fetch("/v1/sprites/one/check");
      await activity(hob, "one");
      return (await status(hob, "one")) === "warm";
    });
    assert.equal((await bodyOf(await hob.fetch("/v1/sprites/one/check"))).status, "sleeping");
    assert.equal(await status(hob, "one"), "warm");
  });

  test("the watch stream shows it go to sleep and wake", async () => {
    await using hob = await TestDaemon.start(IDLE);
    await hob.create("one");
    const stop = new AbortController();
    const response = await hob.fetch("/v1/sprites", { headers: { Accept: "application/x-ndjson" }, signal: stop.signal });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const text of (response.body ?? assert.fail()).pipeThrough(new TextDecoderStream()))
        for (const line of text.split("\n").filter(Boolean)) seen.push(`${JSON.parse(line).type} ${JSON.parse(line).status}`);
    })().catch(() => {});
    await until("it is seen to sleep", () => seen.includes("status warm"));
    await hob.fetch("/v1/sprites/one/echo");
    await until("it is seen to wake", () => seen.indexOf("status running") > seen.indexOf("status warm"));
    stop.abort();
    await reading;
  });
});

test("the memory of a sprite that sleeps for long is dropped; the next request finds it even so", async () => {
  await using hob = await TestDaemon.start({ ...IDLE, coldAfterSeconds: 0.3 });
  await hob.create("one");
  await isAsleep(hob, "one");
  const { cold_at } = await activity(hob, "one");
  const { last_warming_at } = await bodyOf(await hob.fetch("/v1/sprites/one"));
  if (cold_at !== null) assert.equal(Date.parse(cold_at), Date.parse(last_warming_at) + 300);
  await until("it is cold", async () => (await status(hob, "one")) === "cold");
  assert.equal((await activity(hob, "one")).cold_at, null);
  assert.equal((await hob.fetch("/v1/sprites/one/echo")).status, 200);
});

describe("on request", () => {
  test("it sleeps at once, twice too; by force also while it is held; a wrong body is refused", async () => {
    await using hob = await TestDaemon.start();
    await hob.create("one");
    for (let i = 0; i < 2; i++) {
      const answer = await post(hob, "one", "sleep");
      assert.deepEqual([answer.status, await bodyOf(answer)], [200, { sprite_name: "one", status: "warm" }]);
    }
    const socket = await socketTo(hob, "exec/ws");
    assert.equal((await post(hob, "one", "sleep", { force: true })).status, 200);
    assert.equal(sleeps(hob, "one"), 2);
    socket.terminate();
    assert.equal((await post(hob, "one", "sleep", { force: "yes" })).status, 400);
    assert.equal((await post(hob, "none", "sleep")).status, 404);
    assert.equal((await hob.fetch("/v1/sprites/one/sleep")).status, 405);
  });

  test("restart answers as the SDKs read it, upgrade with 204", async () => {
    await using hob = await TestDaemon.start();
    const { id } = await bodyOf(await hob.create("one"));
    const restarted = await bodyOf(await post(hob, "one", "restart"));
    assert.deepEqual([restarted.sprite_name, restarted.machine_id], ["one", id]);
    assert.match(restarted.message, /^restarted in /);
    const upgraded = await post(hob, "one", "upgrade");
    assert.deepEqual([upgraded.status, await upgraded.text()], [204, ""]);
    assert.deepEqual(hob.runtime.calls.slice(-2), ["restart one", "upgrade one"]);
    for (const route of ["restart", "upgrade"]) assert.equal((await post(hob, "none", route)).status, 404);
  });
});

describe("room", () => {
  test("an idle sprite sleeps for a new one and for one that wakes; sprites in use do not", async () => {
    let now = Date.now();
    await using hob = await TestDaemon.start({ maxRunning: 2, idleTimeoutSeconds: 3600 }, {}, { now: () => now });
    await hob.create("old");
    now += 10_000;
    await hob.create("one");
    assert.equal((await hob.create("three")).status, 201, "the idlest makes room");
    assert.deepEqual([await status(hob, "old"), await status(hob, "one"), await status(hob, "three")], ["warm", "running", "running"]);
    assert.equal((await hob.create("four")).status, 429, "the others are not idle for long enough");
    now += 10_000;
    const socket = await socketTo(hob, "exec/ws");
    assert.equal((await hob.fetch("/v1/sprites/old/echo")).status, 200, "the one that nobody uses makes room");
    assert.deepEqual([await status(hob, "old"), await status(hob, "one"), await status(hob, "three")], ["running", "running", "warm"]);
    socket.terminate();
  });

  test("with sleep turned off nobody is put to sleep for another", async () => {
    let now = Date.now();
    await using hob = await TestDaemon.start({ maxRunning: 1 }, {}, { now: () => now });
    await hob.create("one");
    now += 100_000;
    const refused = await hob.create("two");
    assert.equal(refused.status, 429);
    assert.deepEqual(
      ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining"].map((name) => refused.headers.get(name)),
      ["30", "1", "0"],
    );
  });
});

describe("rate of creates", () => {
  test("so many a minute for each token; what finds no room does not count; time gives them back", () => {
    let now = 1_000_000;
    const rate = new CreateRate(2, () => now);
    rate.take("a");
    rate.take("a").undo();
    now += 20_000;
    rate.take("a");
    assert.throws(
      () => rate.take("a"),
      (error: HobError) => {
        assert.deepEqual([error.code, error.status], ["sprite_creation_rate_limited", 429]);
        const { limit, window_seconds, current_count, retry_after_seconds } = error.details;
        assert.deepEqual([limit, window_seconds, current_count, retry_after_seconds], [2, 60, 2, 40]);
        return true;
      },
    );
    rate.take("b");
    now += 40_000;
    rate.take("a");
    assert.throws(() => rate.take("a"));
  });

  test("without a limit none is kept", () => {
    const rate = new CreateRate(0, Date.now);
    for (let i = 0; i < 1_000; i++) rate.take("a").undo();
  });

  test("over the API: headers and body; an idempotent repetition is no create", async () => {
    await using hob = await TestDaemon.start({ createRate: 1 });
    assert.equal((await hob.create("one", {}, { "Idempotency-Key": "k" })).status, 201);
    assert.equal((await hob.create("one", {}, { "Idempotency-Key": "k" })).status, 201);
    const refused = await hob.create("two");
    const body = await bodyOf(refused);
    assert.deepEqual([refused.status, body.error, body.limit, body.window_seconds], [429, "sprite_creation_rate_limited", 1, 60]);
    const header = (name: string) => Number(refused.headers.get(name));
    assert.equal(header("retry-after"), body.retry_after_seconds);
    assert.deepEqual([header("x-ratelimit-limit"), header("x-ratelimit-remaining")], [1, 0]);
    assert.ok(header("x-ratelimit-reset") >= Date.now() / 1_000);
    assert.equal((await hob.create("one")).status, 400, "a taken name is told first");
  });
});

describe("uses", () => {
  test("what a request is called, without its query", () => {
    assert.deepEqual(describeUse("GET", "/v1/sprites/one/exec?cmd=secret", true), { kind: "exec", label: "GET /exec", holds: true });
    assert.deepEqual(describeUse("GET", "/v1/sprites/one/proxy", true), { kind: "proxy", label: "GET /proxy", holds: true });
    assert.deepEqual(describeUse("PUT", "/v1/sprites/one/fs/write?path=x", false), {
      kind: "request",
      label: "PUT /fs/write",
      holds: true,
    });
    assert.equal(describeUse("GET", "/v1/sprites/one/fs/watch?path=x", true).holds, false);
    assert.equal(describeUse("GET", "/v1/sprites/one/ports/watch", true).holds, false);
    assert.ok(describeUse("GET", `/v1/sprites/one/${"x".repeat(10_000)}`, false).label.length < 200);
  });

  test("ends count as use; the host's own questions do not; ending twice does nothing", () => {
    let now = 1;
    const uses = new SpriteUses(() => now);
    const use = uses.begin("a", { kind: "request", label: "x", holds: true });
    now = 5;
    assert.deepEqual([uses.inUse("a"), uses.lastUsedAt("a")], [true, 1]);
    use[Symbol.dispose]();
    now = 9;
    use[Symbol.dispose]();
    assert.deepEqual([uses.inUse("a"), uses.lastUsedAt("a")], [false, 5]);
    const check = uses.begin("a", { kind: "check", label: "x", holds: true, counts: false });
    assert.equal(uses.inUse("a"), true);
    check[Symbol.dispose]();
    assert.equal(uses.lastUsedAt("a"), 5);
    uses.begin("a", { kind: "connection", label: "x", holds: false });
    assert.deepEqual([uses.inUse("a"), uses.lastUsedAt("a")], [false, 9]);
  });
});
