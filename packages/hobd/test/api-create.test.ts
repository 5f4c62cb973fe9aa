import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { LIMITS, SPRITE_VERSION } from "@hob/protocol";
import { bodyOf, TestDaemon, until } from "./support/test-daemon.ts";

describe("create", () => {
  test("answers 201 with the whole sprite, defaults applied", async () => {
    await using hob = await TestDaemon.start();
    const response = await hob.create("one", { labels: ["x"], environment: { A: "1" }, config: { ram_mb: 512 } });
    const sprite = await bodyOf(response);
    assert.equal(response.status, 201);
    assert.equal(response.headers.get("sprite-version"), SPRITE_VERSION);
    assert.match(sprite.id, /^sprite-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const { id, created_at, updated_at, last_running_at, ...rest } = sprite;
    for (const time of [created_at, updated_at, last_running_at]) assert(Math.abs(Date.parse(time) - Date.now()) < 10_000);
    assert.deepEqual(rest, {
      name: "one",
      organization: "hob",
      url: `http://one.sprites.localhost:${new URL(hob.url).port}`,
      status: "running",
      url_settings: { auth: "sprite" },
      labels: ["x"],
      version: SPRITE_VERSION,
      environment_version: SPRITE_VERSION,
      last_warming_at: null,
      config: { ram_mb: 512, cpus: 2, storage_gb: 100, region: "local" },
      environment: { A: "1" },
    });
    assert.deepEqual(await bodyOf(await hob.fetch("/v1/sprites/one")), sprite);
    assert(readdirSync(join(hob.home, "sprites")).includes(id));
  });

  test("refuses what is malformed, and makes nothing", async () => {
    await using hob = await TestDaemon.start();
    const cases: [unknown, string][] = [
      [{}, "invalid_request"],
      [[], "invalid_request"],
      [null, "invalid_request"],
      ["x", "invalid_request"],
      [{ name: 1 }, "invalid_request"],
      [{ name: "A.b" }, "invalid_name"],
      [{ name: "x".repeat(64) }, "invalid_name"],
      [{ name: "ok", config: { ram_mb: 1 } }, "invalid_request"],
      [{ name: "ok", config: { cpus: 1e9 } }, "invalid_request"],
      [{ name: "ok", labels: Array(33).fill("x") }, "invalid_request"],
      [{ name: "ok", environment: { "A=B": "x" } }, "invalid_request"],
      [{ name: "ok", url_settings: { auth: "everyone" } }, "invalid_request"],
    ];
    for (const [json, code] of cases) {
      const response = await hob.fetch("/v1/sprites", { method: "POST", json });
      assert.deepEqual([response.status, (await bodyOf(response)).error], [400, code], JSON.stringify(json));
    }
    for (const body of ["{", "", "\xff", '{"name":"a"}x', "[".repeat(100_000)]) {
      const response = await hob.fetch("/v1/sprites", { method: "POST", body });
      assert.equal(response.status, 400, body.slice(0, 20));
      const text = await response.text();
      assert(text.length < 500 && !text.includes("at "), text);
    }
    const large = await hob.fetch("/v1/sprites", { method: "POST", body: "x".repeat(LIMITS.jsonBodyBytes + 1) });
    assert.deepEqual([large.status, (await bodyOf(large)).error], [413, "payload_too_large"]);
    const chunked = await hob.fetch("/v1/sprites", {
      method: "POST",
      body: new Blob(["x".repeat(LIMITS.jsonBodyBytes * 3)]).stream(),
      duplex: "half",
    } as RequestInit);
    assert.equal(chunked.status, 413);
    assert.deepEqual(hob.runtime.calls, ["recover "]);
  });

  test("a taken name is a 400, also while its sprite is being made", async () => {
    await using hob = await TestDaemon.start({}, { createMs: 50 });
    const responses = await Promise.all(Array.from({ length: 5 }, () => hob.create("one")));
    assert.deepEqual(responses.map(({ status }) => status).sort(), [201, 400, 400, 400, 400]);
    const refused = responses.find(({ status }) => status === 400);
    assert.equal((await bodyOf(refused as Response)).error, "name_taken");
    assert.equal((await hob.create("one")).status, 400);
  });

  test("a failed create leaves nothing, and its name and key are free again", async () => {
    let fail = true;
    await using hob = await TestDaemon.start({}, { failCreate: () => fail });
    const key = { "Idempotency-Key": "k" };
    const response = await hob.create("one", {}, key);
    assert.deepEqual([response.status, (await bodyOf(response)).error], [502, "vm_failed"]);
    assert.equal((await hob.fetch("/v1/sprites/one")).status, 404);
    assert.deepEqual(readdirSync(join(hob.home, "sprites")), []);
    fail = false;
    assert.equal((await hob.create("one", {}, key)).status, 201);
  });

  test("a sprite that is being made is not shown", async () => {
    await using hob = await TestDaemon.start({}, { createMs: 100 });
    const creating = hob.create("one");
    await until("the create begins", () => hob.runtime.creating === 1);
    assert.equal((await hob.fetch("/v1/sprites/one")).status, 404);
    assert.equal((await hob.fetch("/v1/sprites/one/echo")).status, 404);
    assert.deepEqual((await bodyOf(await hob.fetch("/v1/sprites"))).sprites, []);
    assert.equal((await creating).status, 201);
  });

  test("a client that gives up does not stop the create, and a delete meanwhile waits for it", async () => {
    await using hob = await TestDaemon.start({}, { createMs: 150 });
    const gone = new AbortController();
    const creating = hob.fetch("/v1/sprites", { method: "POST", json: { name: "one" }, signal: gone.signal });
    await until("the create begins", () => hob.runtime.creating === 1);
    gone.abort();
    await assert.rejects(creating, { name: "AbortError" });
    const other = hob.create("two");
    assert.equal((await hob.fetch("/v1/sprites/one", { method: "DELETE" })).status, 204);
    assert.equal((await hob.fetch("/v1/sprites/one")).status, 404);
    assert.equal((await other).status, 201);
    assert.equal(readdirSync(join(hob.home, "sprites")).length, 1);
  });
});

describe("idempotency", () => {
  test("one key, one sprite: at once, later, and in another spelling of the same request", async () => {
    await using hob = await TestDaemon.start({}, { createMs: 30 });
    const key = { "Idempotency-Key": "k1" };
    const many = await Promise.all(Array.from({ length: 6 }, () => hob.create("one", { environment: { A: "1", B: "2" } }, key)));
    const later = await hob.fetch("/v1/sprites", {
      method: "POST",
      body: '{ "environment": {"B":"2", "A":"1"}, "name" : "one" }',
      headers: key,
    });
    const all = [...many, later];
    assert.deepEqual(
      all.map(({ status }) => status),
      Array(7).fill(201),
    );
    assert.equal(new Set((await Promise.all(all.map(bodyOf))).map(({ id }) => id)).size, 1);
    assert.equal(hob.runtime.calls.filter((call) => call === "create one").length, 1);
  });

  test("another request under the same key is a 400, at once and later", async () => {
    await using hob = await TestDaemon.start({}, { createMs: 30 });
    const key = { "Idempotency-Key": "k1" };
    const [first, second] = await Promise.all([hob.create("one", {}, key), hob.create("two", {}, key)]);
    assert.deepEqual([first.status, second.status], [201, 400]);
    assert.equal((await bodyOf(second)).error, "idempotency_mismatch");
    assert.equal((await hob.create("one", { labels: ["x"] }, key)).status, 400);
    assert.equal((await hob.create("three", {}, { "Idempotency-Key": "" })).status, 400);
    assert.equal((await hob.create("three", {}, { "Idempotency-Key": "k".repeat(256) })).status, 400);
  });

  test("a late duplicate does not bring a destroyed sprite back", async () => {
    await using hob = await TestDaemon.start();
    const key = { "Idempotency-Key": "k1" };
    await hob.create("one", {}, key);
    assert.equal((await hob.fetch("/v1/sprites/one", { method: "DELETE" })).status, 204);
    const response = await hob.create("one", {}, key);
    assert.deepEqual([response.status, (await bodyOf(response)).error], [409, "conflict"]);
  });
});

describe("capacity", () => {
  test("twenty at once with room for five: each is answered clearly, two are made at a time", async () => {
    await using hob = await TestDaemon.start({ maxRunning: 5 }, { createMs: 20 });
    const responses = await Promise.all(Array.from({ length: 20 }, (_, i) => hob.create(`s-${i}`)));
    const bodies = await Promise.all(responses.map(bodyOf));
    assert.equal(responses.filter(({ status }) => status === 201).length, 5);
    const refused = responses.flatMap((response, i) => (response.status === 429 ? [{ response, body: bodies[i] }] : []));
    assert.equal(refused.length, 15);
    for (const { response, body } of refused) {
      assert.equal(body.error, "concurrent_sprite_limit_exceeded");
      assert.deepEqual([body.limit, body.current_count], [5, 5]);
      assert(Number(response.headers.get("retry-after")) > 0);
    }
    assert.equal(hob.runtime.creatingMax, 2);
    const list = await bodyOf(await hob.fetch("/v1/sprites"));
    assert.deepEqual([list.sprites.length, list.running, list.running_limit], [5, 5, 5]);
  });

  test("wait_for_capacity waits until a sprite is destroyed or sleeps; a waiter whose client is gone takes nothing", async () => {
    await using hob = await TestDaemon.start({ maxRunning: 1 });
    const { id } = await bodyOf(await hob.create("one"));
    const gone = new AbortController();
    const abandoned = hob.fetch("/v1/sprites", { method: "POST", json: { name: "gone", wait_for_capacity: true }, signal: gone.signal });
    const waiting = hob.create("two", { wait_for_capacity: true });
    await assert.rejects(Promise.race([waiting, new Promise((_, reject) => setTimeout(reject, 100, new Error("waits")))]), /waits/);
    gone.abort();
    await assert.rejects(abandoned, { name: "AbortError" });
    await hob.fetch("/v1/sprites/one", { method: "DELETE" });
    assert.equal((await waiting).status, 201);
    assert.equal((await hob.fetch("/v1/sprites/gone")).status, 404);
    assert.equal((await hob.create("three")).status, 429);
    hob.runtime.setStatus((await bodyOf(await hob.fetch("/v1/sprites/two"))).id, "warm");
    assert.equal((await hob.create("three")).status, 201);
    // Now there is no room to wake the second one.
    assert.equal((await hob.fetch("/v1/sprites/two/echo")).status, 429);
    assert.equal((await hob.fetch("/v1/sprites/three/echo")).status, 200);
    assert(id);
  });
});
