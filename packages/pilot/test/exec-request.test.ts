import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseDurationMs } from "@hob/protocol";
import fc from "fast-check";
import { matchExecRoute, parseExecRequest, toExecSpec } from "../src/exec/request.ts";
import { signalNumber } from "../src/exec/signals.ts";
import { parseTextFrame } from "../src/exec/websocket-client.ts";

const parse = (query: string) => parseExecRequest(new URLSearchParams(query));

describe("exec query", () => {
  test("requests as the SDKs send them", () => {
    assert.deepEqual(parse("cmd=sh&cmd=-c&cmd=x+y&path=sh&stdin=true&env=K%3DV&env=L%3Da%3Db&dir=%2Ftmp"), {
      argv: ["sh", "-c", "x y"],
      file: "sh",
      env: { K: "V", L: "a=b" },
      cwd: "/tmp",
      tty: undefined,
      stdin: true,
      maxRunAfterDisconnectMs: 10_000,
    });
    const tty = parse("cmd=bash&cmd=-l&path=bash&stdin=true&tty=true&rows=40&cols=120&cc=true&detachable=true");
    assert.deepEqual([tty.tty, tty.stdin, tty.maxRunAfterDisconnectMs], [{ cols: 120, rows: 40 }, true, 0]);
  });

  test("defaults", () => {
    const bare = parse("");
    assert.deepEqual([bare.argv, bare.file, bare.cwd, bare.stdin], [["-bash"], "/bin/bash", "/home/sprite", false]);
    assert.deepEqual(parse("tty=1").tty, { cols: 80, rows: 24 });
    assert.deepEqual(parse("tty=1&cols=0&rows=0").tty, { cols: 80, rows: 24 });
    assert.equal(parse("tty=1").stdin, true);
    assert.deepEqual(parse("path=/bin/ls").argv, ["/bin/ls"]);
  });

  test("path is the executable, cmd[0] stays argv[0]", () => {
    assert.deepEqual(toExecSpec(parse("cmd=name&cmd=x&path=/bin/busybox"), {}).argv, ["name", "x"]);
    assert.equal(toExecSpec(parse("cmd=name&path=/bin/busybox"), {}).file, "/bin/busybox");
  });

  test("variables of the request go over those of the sprite, these over the default", () => {
    const { env } = toExecSpec(parse("tty=true&env=A=request&env=PATH=/x"), { A: "sprite", B: "sprite", HOME: "/elsewhere" });
    assert.equal(env.A, "request");
    assert.equal(env.B, "sprite");
    assert.equal(env.HOME, "/elsewhere");
    assert.equal(env.PATH, "/x");
    assert.equal(env.TERM, "xterm-256color");
    assert.equal(toExecSpec(parse(""), {}).env.TERM, undefined);
    assert.match(toExecSpec(parse(""), {}).env.PATH ?? "", /^\/\.sprite\/bin:\/usr\/local\/sbin:/);
  });

  for (const query of [
    "env=novalue",
    "env=%3Dx",
    "dir=relative",
    "tty=maybe",
    "cols=-1",
    "rows=70000",
    "cmd=a%00b",
    "max_run_after_disconnect=soon",
    "path=",
  ]) {
    test(`refuses ${query}, without repeating its value`, () => {
      assert.throws(() => parse(query), { code: "invalid_request", message: new RegExp(`^exec: parameter ${query.split("=")[0]}: `) });
    });
  }

  test("any query is either understood or refused", () => {
    const key = fc.constantFrom("cmd", "path", "env", "dir", "tty", "stdin", "cols", "rows", "max_run_after_disconnect", "x");
    fc.assert(
      fc.property(fc.array(fc.tuple(key, fc.string())), (pairs) => {
        try {
          const request = parseExecRequest(new URLSearchParams(pairs));
          assert.ok(request.argv.length > 0 && request.cwd.startsWith("/"));
        } catch (error) {
          assert.equal((error as { code?: string }).code, "invalid_request");
        }
      }),
    );
  });

  test("routes", () => {
    assert.equal(matchExecRoute("/v1/sprites/a/exec?cmd=x")?.route, "exec");
    assert.equal(matchExecRoute("/v1/sprites/a/control")?.route, "control");
    assert.equal(matchExecRoute("/v1/sprites/a/exec?cmd=x")?.sessionId, undefined);
    assert.equal(matchExecRoute("/v1/sprites/a/exec/42?stdin=true")?.sessionId, "42");
    assert.equal(matchExecRoute("/v1/sprites/a/exec?id=42")?.sessionId, "42");
    for (const other of ["/v1/sprites/a/exec/1/kill", "/v1/sprites//exec", "/v1/sprites/a/b/exec", "/v1/sprites/a", ""])
      assert.equal(matchExecRoute(other), undefined);
    assert.throws(() => matchExecRoute(`/v1/sprites/a/exec?cmd=${"x".repeat(300_000)}`), { code: "invalid_request" });
  });
});

test("durations", () => {
  const cases: [string, number | undefined][] = [
    ["5s", 5000],
    ["1.5s", 1500],
    ["2.0s", 2000],
    ["0s", 0],
    ["10", 10_000],
    ["0.25", 250],
    ["1m30s", 90_000],
    ["250ms", 250],
    ["1h", 3_600_000],
    ["", undefined],
    ["s", undefined],
    ["-1s", undefined],
    ["1d", undefined],
    ["5 s", undefined],
    ["1e3", undefined],
    ["9999h", undefined],
  ];
  for (const [text, ms] of cases) assert.equal(parseDurationMs(text), ms, text);
});

test("signal names in any spelling", () => {
  for (const text of ["SIGTERM", "sigterm", "TERM", "term", "15", " Term "]) assert.equal(signalNumber(text), 15, text);
  for (const text of ["", "0", "65", "SIG", "NOPE", "toString", "__proto__", "-9"]) assert.equal(signalNumber(text), undefined, text);
});

test("text frames: ours are understood, all else is ignored", () => {
  assert.deepEqual(parseTextFrame('{"type":"resize","cols":10,"rows":20}'), { type: "resize", cols: 10, rows: 20 });
  assert.deepEqual(parseTextFrame('{"type":"signal","signal":15}'), { type: "signal", signal: "15" });
  for (const text of [
    "",
    "x",
    "null",
    "[]",
    "{}",
    '{"type":"resize","cols":0,"rows":1}',
    '{"type":"resize","cols":1e9,"rows":1}',
    '{"type":"signal","signal":{}}',
    '{"type":"dial"}',
  ]) {
    assert.equal(parseTextFrame(text), undefined, text);
  }
});
