import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HobError, SPRITE_NAME_PATTERN, spriteName } from "@hob/protocol";
import fc from "fast-check";
import { AsyncLimit } from "../src/api/async-limit.ts";
import { CapacityGate, defaultMaxRunning } from "../src/api/capacity.ts";
import { decodeContinuation, encodeContinuation } from "../src/api/continuation.ts";
import { createLogger, RotatingFile } from "../src/daemon/log.ts";
import { parseTarget } from "../src/front-door/target.ts";
import { cacheKeepMs, loadConfig } from "../src/index.ts";

const nameArbitrary = fc.stringMatching(SPRITE_NAME_PATTERN);

describe("continuation tokens", () => {
  test("give back the name they were made of", () => {
    fc.assert(fc.property(nameArbitrary, (name) => decodeContinuation(encodeContinuation(name)) === name));
  });

  test("anything else is refused with a 400", () => {
    const refused = (token: string) => {
      try {
        return encodeContinuation(decodeContinuation(token)) === token;
      } catch (error) {
        return error instanceof HobError && error.status === 400;
      }
    };
    fc.assert(fc.property(fc.string(), refused));
    fc.assert(fc.property(fc.base64String(), refused));
    for (const token of ["", "x", `${encodeContinuation("a")}=`, encodeContinuation("A"), encodeContinuation("a' OR 1=1")]) {
      assert.throws(() => decodeContinuation(token), { code: "invalid_request" }, token);
    }
  });
});

test("a sprite name is a DNS label and nothing else", () => {
  fc.assert(fc.property(nameArbitrary, (name) => name.length <= 63 && new URL(`http://${name}.x/`).hostname === `${name}.x`));
  fc.assert(fc.property(fc.string(), (text) => spriteName.safeParse(text).success === /^(?!-)[a-z0-9-]{1,63}(?<!-)$/.test(text)));
  for (const name of ["", "a.b", "A", "-a", "a-", "a\n", "a/b", "a".repeat(64), "ä"])
    assert.equal(spriteName.safeParse(name).success, false, name);
});

describe("capacity", () => {
  test("the default leaves a fifth of the memory to the host, and one sprite always fits", () => {
    assert.equal(defaultMaxRunning(16 * 2 ** 30, 1024), 12);
    assert.equal(defaultMaxRunning(2 ** 29, 1024), 1);
  });

  test("refuses beyond the limit, counts a sprite that runs and is reserved once, and frees by itself", async () => {
    const running = ["a"];
    const gate = new CapacityGate(2, async () => running);
    const b = await gate.reserve("b");
    const again = await gate.reserve("a");
    await assert.rejects(gate.reserve("c"), (error: HobError) => {
      assert.deepEqual([error.status, error.details.limit, error.details.current_count], [429, 2, 2]);
      return true;
    });
    b[Symbol.dispose]();
    again[Symbol.dispose]();
    const c = await gate.reserve("c");
    c[Symbol.dispose]();
  });

  test("of many at once, exactly as many get in as there are places", async () => {
    const gate = new CapacityGate(7, async () => sleep(1, []));
    const results = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => gate.reserve(`s${i}`)));
    assert.equal(results.filter(({ status }) => status === "fulfilled").length, 7);
  });

  test("waits for a place, until the deadline or until nobody needs it", async () => {
    const gate = new CapacityGate(1, async () => []);
    const first = await gate.reserve("a");
    const waiting = gate.reserveWhenFree("b", Date.now() + 5_000);
    await assert.rejects(gate.reserveWhenFree("c", Date.now() + 20), { code: "concurrent_sprite_limit_exceeded" });
    const gone = new AbortController();
    const abandoned = gate.reserveWhenFree("d", Date.now() + 5_000, gone.signal);
    gone.abort();
    await assert.rejects(abandoned, { code: "concurrent_sprite_limit_exceeded" });
    first[Symbol.dispose]();
    (await waiting)[Symbol.dispose]();
  });
});

describe("bounded concurrency", () => {
  test("keeps the bound and the order, also when tasks fail", async () => {
    const limit = new AsyncLimit(2);
    const started: number[] = [];
    let running = 0;
    let most = 0;
    const tasks = Array.from({ length: 9 }, (_, i) =>
      limit.run("test", Date.now() + 5_000, async () => {
        started.push(i);
        most = Math.max(most, ++running);
        await sleep(2);
        running--;
        if (i % 3 === 0) throw new Error("as asked");
      }),
    );
    const results = await Promise.allSettled(tasks);
    assert.equal(most, 2);
    assert.deepEqual(started, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(results.filter(({ status }) => status === "rejected").length, 3);
  });

  test("a task whose turn does not come in time never runs, and takes no turn from others", async () => {
    const limit = new AsyncLimit(1);
    const slow = limit.run("slow", Date.now() + 1_000, () => sleep(60));
    let ran = false;
    await assert.rejects(
      limit.run("late", Date.now() + 10, async () => {
        ran = true;
      }),
      { code: "timeout" },
    );
    await slow;
    assert.equal(await limit.run("next", Date.now() + 1_000, async () => "ok"), "ok");
    assert.equal(ran, false);
  });
});

describe("request targets", () => {
  test("are told apart", () => {
    assert.deepEqual(parseTarget("/v1/sprites/a/exec?cmd=a/../b"), { kind: "sprite", name: "a", rest: "/exec?cmd=a/../b" });
    assert.deepEqual(parseTarget("http://host:1/v1/sprites/a/fs/read?path=/x"), { kind: "sprite", name: "a", rest: "/fs/read?path=/x" });
    assert.deepEqual(parseTarget("/v1/sprites/%61/x"), { kind: "sprite", name: "a", rest: "/x" });
    for (const path of [
      "/v1/sprites",
      "/v1/sprites/",
      "/v1/sprites/a",
      "/v1/sprites/a/",
      "/v1/sprites/a/check",
      "/v1/sprites//x",
      "/",
      "/v2/sprites/a/b",
    ]) {
      assert.deepEqual(parseTarget(path), { kind: "api", target: path });
    }
  });

  test("that could be resolved into another path are refused", () => {
    const hostile = [
      "",
      "*",
      "a",
      "/v1/sprites/a/../b/x",
      "/v1/sprites/a/%2e%2E/b",
      "/v1/sprites/a/.%2e",
      "/v1/sprites/../x/y",
      "/v1/sprites/a/..",
      "/a\\b",
    ];
    hostile.push("/v1/sprites/a/b\\..\\c", "/v1/sprites/%zz/x", "/v1/sprites/%ff/x", "/v1/sprites/a/x#y", "/v1/sprites/a/\tx", "/ä");
    for (const target of hostile) assert.throws(() => parseTarget(target), { code: "invalid_request" }, target);
    assert.throws(() => parseTarget(`/${"x".repeat(300_000)}`), { code: "payload_too_large" });
  });

  test("property: what is forwarded stays below its sprite for a URL parser too", () => {
    const piece = fc.constantFrom(
      "..",
      ".",
      "%2e",
      "%2E",
      "/",
      "\\",
      "a",
      "v1",
      "sprites",
      "?",
      "%2f",
      "%5c",
      "hob",
      "//",
      "#",
      "\t",
      "@",
      ":",
      ";",
    );
    const targets = fc.array(piece, { maxLength: 12 }).map((pieces) => `/v1/sprites/${pieces.join("")}`);
    fc.assert(
      fc.property(targets, (text) => {
        let target: ReturnType<typeof parseTarget>;
        try {
          target = parseTarget(text);
        } catch (error) {
          return error instanceof HobError;
        }
        if (target.kind === "api") return true;
        return new URL(`http://pilot/v1/sprites/name${target.rest}`).pathname.startsWith("/v1/sprites/name/");
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("configuration", () => {
  test("flags win over the environment, that over the defaults; empty counts as missing", () => {
    const env = { HOME: "/home/x", HOB_LISTEN: "0.0.0.0:80", HOB_MAX_RUNNING: "3", HOB_LOG: "" };
    assert.deepEqual(loadConfig(env, { listen: "[::1]:0" }), {
      home: "/home/x/.local/share/hob",
      listen: { host: "::1", port: 0 },
      domain: "sprites.localhost",
      maxRunning: 3,
      idleTimeoutSeconds: 30,
      coldAfterSeconds: 86_400,
      cacheKeepSeconds: 14 * 86_400,
      createRate: 0,
      logLevel: "info",
      store: "dir:/home/x/.local/share/hob/store",
    });
    const { idleTimeoutSeconds, coldAfterSeconds, cacheKeepSeconds, createRate } = loadConfig(
      { HOB_IDLE_TIMEOUT: "5m", HOB_COLD_AFTER: "0", HOB_CACHE_KEEP: "2d" },
      { idleTimeout: "1.5s", createRate: "10/min" },
    );
    assert.deepEqual([idleTimeoutSeconds, coldAfterSeconds, cacheKeepSeconds, createRate], [1.5, 0, 172_800, 10]);
    assert.equal(cacheKeepMs({ cacheKeepSeconds }), 172_800_000);
    assert.equal(cacheKeepMs(loadConfig({ HOB_CACHE_KEEP: "0" })), Number.POSITIVE_INFINITY);
    assert.deepEqual(loadConfig({ HOB_HOME: "/h" }, { listen: "9000" }).listen, { host: "127.0.0.1", port: 9000 });
  });

  test("what is wrong is named", () => {
    const bad = [
      { listen: "x" },
      { listen: "h:70000" },
      { listen: "1:2:3" },
      { domain: "a b" },
      { domain: "-a" },
      { maxRunning: "0" },
      { maxRunning: "1e3" },
      { logLevel: "loud" },
      { idleTimeout: "soon" },
      { idleTimeout: "31d" },
      { coldAfter: "-1" },
      { cacheKeep: "59m" },
      { cacheKeep: "often" },
      { createRate: "10/hour" },
    ];
    for (const flags of bad) {
      const [setting = ""] = Object.keys(flags);
      assert.throws(
        () => loadConfig({}, flags),
        (error: HobError) => error.code === "invalid_config" && error.message.includes(setting),
      );
    }
  });
});

describe("log", () => {
  test("is bounded, keeps the newest lines, and hides secrets", () => {
    const directory = mkdtempSync(join(tmpdir(), "hobd-log-"));
    try {
      const path = join(directory, "log");
      const file = new RotatingFile(path, 2_000);
      const log = createLogger("info", file);
      for (let i = 0; i < 200; i++) log.info({ i, pilotToken: "geheim", request: { headers: { authorization: "geheim" } } }, "line");
      log.debug("not at this level");
      file.close();
      log.info("after the close, for nobody");
      assert(statSync(path).size < 2_300 && statSync(`${path}.1`).size < 2_300);
      const text = readFileSync(path, "utf8");
      assert(text.includes('"i":199'));
      assert.equal(text.includes("geheim"), false);
      assert.equal(statSync(path).mode & 0o777, 0o600);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
