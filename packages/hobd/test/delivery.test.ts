import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { describe, test } from "node:test";
import { WebSocket } from "ws";
import type { SpriteContext } from "../src/api/sprite-context.ts";
import { createPilotLocator } from "../src/front-door/pilot-locator.ts";
import type { SpriteRecord } from "../src/registry/registry.ts";
import { LossyWay } from "./support/lossy-way.ts";
import { bodyOf, TestDaemon, until } from "./support/test-daemon.ts";

const PATH = "/v1/sprites/one";

/** Long enough that nothing is given up by time in a test that does not want it. */
const TIMES = { patienceMs: 60_000, repeatAfterMs: 60_000 };

async function withWay(
  times: Partial<typeof TIMES>,
  body: (hob: TestDaemon, way: LossyWay) => Promise<void>,
  port = (way: LossyWay) => way.port,
): Promise<void> {
  let hob: TestDaemon | undefined;
  await using way = await LossyWay.start(() => hob?.pilot.port ?? 0);
  await using daemon = await TestDaemon.start({}, { pilotPort: () => port(way) }, { upstreamTimes: { ...TIMES, ...times } });
  hob = daemon;
  assert.equal((await daemon.create("one")).status, 201);
  daemon.pilot.takesOnce = true;
  await body(daemon, way);
}

const webSocket = (hob: TestDaemon, path: string) => {
  const ws = new WebSocket(`${hob.url.replace("http", "ws")}${path}`, { headers: hob.headers, perMessageDeflate: false });
  return new Promise<WebSocket>((resolve, reject) => ws.once("open", () => resolve(ws)).once("error", reject));
};

const BODY = randomBytes(300_000);
const SHA256 = createHash("sha256").update(BODY).digest("hex");

/** Every kind of request; each fails when it is not answered well. */
const KINDS: Record<string, (hob: TestDaemon) => Promise<void>> = {
  upgrade: async (hob) => (await webSocket(hob, `${PATH}/ws`)).terminate(),
  GET: async (hob) => assert.equal((await hob.fetch(`${PATH}/echo`)).status, 200),
  POST: async (hob) => assert.equal((await hob.fetch(`${PATH}/echo`, { method: "POST" })).status, 200),
  "PUT with a body": async (hob) =>
    assert.equal((await bodyOf(await hob.fetch(`${PATH}/sink`, { method: "PUT", body: BODY }))).sha256, SHA256),
  "POST with a body of unknown length": async (hob) => {
    const init = { method: "POST", body: new Blob([BODY]).stream(), duplex: "half" } as RequestInit;
    assert.equal((await bodyOf(await hob.fetch(`${PATH}/sink`, init))).sha256, SHA256);
  },
};

describe("a connection that is lost without a word", () => {
  for (const [kind, ask] of Object.entries(KINDS)) {
    test(`${kind}: is sent once more beside it, under the same name, and arrives once`, () =>
      withWay({ repeatAfterMs: 30 }, async (hob, way) => {
        way.plan.push("lose", "lose");
        await ask(hob);
        assert.deepEqual([way.count, hob.pilot.seen.length], [3, 1]);
        await until("the others are given up", () => way.givenUp === 2);
      }));
  }

  test("that was only slow: what comes second is not taken", () =>
    withWay({ repeatAfterMs: 30 }, async (hob, way) => {
      way.plan.push("hold", "hold");
      const answer = hob.fetch(`${PATH}/echo`, { method: "POST" });
      await until("it was sent twice", () => way.count === 2);
      way.release();
      assert.equal((await answer).status, 200);
      assert.equal(hob.pilot.seen.length, 1);
    }));

  test("that was so slow that the second was taken: the second's answer is the one", () =>
    withWay({ repeatAfterMs: 20 }, async (hob, way) => {
      const ready = Promise.withResolvers<void>();
      hob.pilot.slow = ready.promise;
      way.plan.push("hold");
      const answer = hob.fetch(`${PATH}/slow`, { method: "POST" });
      await until("the second is taken", () => hob.pilot.seen.length === 1);
      const before = hob.pilot.refused;
      way.release();
      await until("the first is refused", () => hob.pilot.refused > before);
      ready.resolve();
      const response = await answer;
      assert.deepEqual([response.status, await response.text(), hob.pilot.seen.length], [200, "at last", 1]);
    }));

  test("an answer that takes its time is waited for, however often it was asked for", () =>
    withWay({ repeatAfterMs: 20 }, async (hob, way) => {
      for (const method of ["GET", "POST"]) {
        const ready = Promise.withResolvers<void>();
        hob.pilot.slow = ready.promise;
        const before = hob.pilot.refused;
        const answer = hob.fetch(`${PATH}/slow`, { method });
        await until("it was sent again, and refused", () => hob.pilot.refused > before);
        ready.resolve();
        assert.equal(await (await answer).text(), "at last");
      }
      assert.equal(hob.pilot.seen.length, 2);
      assert.ok(way.count < 6, "that it has arrived was understood");
    }));

  test("after it has arrived: what only reads is asked anew", () =>
    withWay({ repeatAfterMs: 20 }, async (hob) => {
      const ready = Promise.withResolvers<void>();
      hob.pilot.slow = ready.promise;
      const answer = hob.fetch(`${PATH}/slow`);
      await until("it was sent again, and refused", () => hob.pilot.refused > 0);
      hob.pilot.cut();
      ready.resolve();
      const response = await answer;
      assert.deepEqual([response.status, await response.text(), hob.pilot.seen.length], [200, "at last", 2]);
    }));

  test("after it has arrived: when another host takes the sprite over, that is told, and no conflict of the repetition", () =>
    withWay({ repeatAfterMs: 20 }, async (hob) => {
      for (const [isLost, error] of [
        [false, undefined],
        [true, "ownership_lost"],
      ] as const) {
        const before = hob.pilot.refused;
        const answer = hob.fetch(`${PATH}/mute`, { method: "POST" });
        await until("it was sent again, and refused", () => hob.pilot.refused > before);
        hob.runtime.isLost = isLost;
        hob.pilot.cut();
        const response = await answer;
        assert.equal(response.status, 409);
        const text = await response.text();
        if (error !== undefined) assert.equal(JSON.parse(text).error, error);
      }
    }));

  test("a conflict that the pilot means is told, when the other one is gone", () =>
    withWay({ repeatAfterMs: 20 }, async (hob, way) => {
      way.plan.push("lose");
      const answer = hob.fetch(`${PATH}/conflict`, { method: "POST" });
      await until("the repetition has its answer", () => hob.pilot.answered === 1);
      way.reset();
      assert.deepEqual([(await answer).status, await (await answer).text()], [409, "a conflict of its own"]);
    }));
});

describe("a pilot that is being started", () => {
  for (const [kind, ask] of Object.entries(KINDS)) {
    test(`${kind}: waits for it`, () =>
      withWay({}, async (hob, way) => {
        hob.pilot.starting = 3;
        await ask(hob);
        assert.deepEqual([way.count, hob.pilot.seen.length], [4, 1]);
      }));
  }

  test("is waited for while nothing listens; a client that leaves takes its request with it", async () => {
    const reserved = createServer();
    await new Promise<void>((resolve) => reserved.listen(0, "127.0.0.1", resolve));
    const { port: closed } = reserved.address() as { port: number };
    await new Promise((resolve) => reserved.close(resolve));
    let isUp = false;
    await withWay(
      {},
      async (hob) => {
        const gone = new AbortController();
        const left = hob.fetch(`${PATH}/echo`, { signal: gone.signal });
        const answers = [hob.fetch(`${PATH}/echo`), hob.fetch(`${PATH}/sink`, { method: "POST", body: "hello" })];
        const asked = () => hob.runtime.calls.filter((call) => call === "endpoint one").length;
        await until("they were sent again", () => asked() > 9);
        gone.abort();
        await assert.rejects(left);
        isUp = true;
        for (const answer of answers) assert.equal((await answer).status, 200);
        assert.equal(hob.pilot.seen.length, 2);
      },
      (way) => (isUp ? way.port : closed),
    );
  });

  test("is not waited for for ever", () =>
    withWay({ patienceMs: 50 }, async (hob) => {
      hob.pilot.starting = Number.POSITIVE_INFINITY;
      const response = await hob.fetch(`${PATH}/echo`, { method: "POST", body: "x" });
      const { error, hint } = await bodyOf(response);
      assert.deepEqual([response.status, error, typeof hint], [502, "pilot_unreachable", "string"]);
      assert.equal(response.headers.get("hob-starting"), null);
    }));
});

describe("a VM that ends with a request, and boots anew", { timeout: 60_000 }, () => {
  /** Every kind of request that may have an effect, and what is answered. */
  const effects: Record<string, (hob: TestDaemon, route: string) => Promise<{ status: number; error: string }>> = {
    upgrade: (hob, route) =>
      new Promise((resolve, reject) => {
        const ws = new WebSocket(`${hob.url.replace("http", "ws")}${PATH}/${route}`, { headers: hob.headers });
        ws.once("open", () => reject(new Error("it was taken"))).on("error", () => {});
        ws.once("unexpected-response", async (_request, response) => {
          const text = Buffer.concat(await response.toArray()).toString();
          resolve({ status: response.statusCode ?? 0, error: JSON.parse(text).error });
        });
      }),
    ...Object.fromEntries(
      [{ method: "POST" }, { method: "DELETE" }, { method: "PUT", body: "a body" }].map((init) => [
        `${init.method} ${"body" in init ? "with" : "without"} a body`,
        async (hob: TestDaemon, route: string) => {
          const response = await hob.fetch(`${PATH}/${route}`, init);
          return { status: response.status, error: (await bodyOf(response)).error };
        },
      ]),
    ),
  };
  const bootAnew = (hob: TestDaemon) => {
    hob.runtime.bootId = "second";
    hob.pilot.forget();
    hob.pilot.cut();
  };

  for (const [kind, ask] of Object.entries(effects)) {
    test(`${kind}: is not sent to it again, and the client hears that it may have been done`, () =>
      withWay({}, async (hob) => {
        const answer = ask(hob, "mute");
        await until("it is taken", () => hob.pilot.seen.length === 1);
        bootAnew(hob);
        assert.deepEqual(await answer, { status: 502, error: "outcome_unknown" });
        assert.equal(hob.pilot.seen.length, 1);
      }));

    // What has sent its body cannot be sent again: nobody asks for the sprite then.
    test(`${kind}: nor when another host has taken the sprite over, and the client hears that`, () =>
      withWay({}, async (hob) => {
        const answer = ask(hob, "mute");
        await until("it is taken", () => hob.pilot.seen.length === 1);
        hob.runtime.isLost = true;
        hob.pilot.cut();
        const gone = { status: 502, error: "outcome_unknown" };
        assert.deepEqual(await answer, kind.endsWith("with a body") ? gone : { status: 409, error: "ownership_lost" });
        assert.equal(hob.pilot.seen.length, 1);
      }));

    test(`${kind}: nor when it was lost on the way, which nobody can tell from taken`, () =>
      withWay({ repeatAfterMs: 20 }, async (hob, way) => {
        way.plan.push("lose", "lose", "lose", "lose");
        const answer = ask(hob, "mute");
        await until("it was sent four times", () => way.count === 4);
        bootAnew(hob);
        way.reset();
        assert.deepEqual(await answer, { status: 502, error: "outcome_unknown" });
        assert.equal(hob.pilot.seen.length, 0);
      }));
  }

  for (const method of ["GET", "HEAD", "OPTIONS"]) {
    test(`${method}: is sent again`, () =>
      withWay({}, async (hob) => {
        const ready = Promise.withResolvers<void>();
        hob.pilot.slow = ready.promise;
        const answer = hob.fetch(`${PATH}/slow`, { method });
        await until("it is taken", () => hob.pilot.seen.length === 1);
        bootAnew(hob);
        ready.resolve();
        assert.deepEqual([(await answer).status, hob.pilot.seen.length], [200, 2]);
      }));
  }

  test("what was certainly not taken is sent to it: the pilot was being started, or nothing listened", async () => {
    const reserved = createServer();
    await new Promise<void>((resolve) => reserved.listen(0, "127.0.0.1", resolve));
    const { port: closed } = reserved.address() as { port: number };
    await new Promise((resolve) => reserved.close(resolve));
    let isUp = true;
    await withWay(
      {},
      async (hob) => {
        hob.pilot.starting = Number.POSITIVE_INFINITY;
        const answers = [hob.fetch(`${PATH}/echo`, { method: "POST" }), hob.fetch(`${PATH}/sink`, { method: "POST", body: "hello" })];
        await until("both were refused", () => hob.pilot.refused > 4);
        isUp = false;
        const asked = hob.runtime.calls.length;
        await until("nothing listens", () => hob.runtime.calls.length > asked + 4);
        hob.pilot.starting = 0;
        hob.runtime.bootId = "second";
        isUp = true;
        for (const answer of answers) assert.equal((await answer).status, 200);
        assert.equal(hob.pilot.seen.length, 2);
      },
      (way) => (isUp ? way.port : closed),
    );
  });
});

test("a request that was taken and then cut off is not done again, and that is said", () =>
  withWay({}, async (hob) => {
    assert.equal((await hob.fetch(`${PATH}/shy`, { method: "POST" })).status, 409);
    assert.equal(hob.pilot.seen.length, 1);
    hob.pilot.seen.length = 0;
    const response = await hob.fetch(`${PATH}/shy`, { method: "POST", body: "x" });
    assert.deepEqual([response.status, (await bodyOf(response)).error], [502, "outcome_unknown"]);
    assert.equal(hob.pilot.seen.length, 1);
    hob.pilot.seen.length = 0;
    assert.equal(await (await hob.fetch(`${PATH}/shy`)).text(), "second try");
  }));

test("a sprite that was destroyed while a request waited for room is not asked for", async () => {
  const record = { id: "sprite-1", name: "one" } as SpriteRecord;
  let state = "ready";
  const reserve = async () => {
    state = "destroying";
    return { [Symbol.dispose]: () => {} };
  };
  const runtime = { status: () => "warm", endpoint: () => assert.fail("it is started") };
  const context = { runtime, gate: { reserve }, sprites: { findById: async () => ({ ...record, state }) }, urlOf: () => "" };
  const locate = createPilotLocator(context as unknown as SpriteContext);
  await assert.rejects(locate(record), { code: "not_found", message: 'find sprite "one": no sprite of this name' });
});
