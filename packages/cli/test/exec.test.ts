import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { separateCommand } from "../src/exec-arguments.ts";
import { ended, HOB, startHob } from "./support/run-hob.ts";

const { daemon, home } = await startHob("web");

describe("hob exec", () => {
  test("exit statuses pass through", async () => {
    for (const status of [0, 1, 2, 42, 126, 127, 255])
      assert.equal((await home.run(["exec", "web", "--", "sh", "-c", `exit ${status}`])).status, status);
  });

  test("the command may follow with or without --, the sprite by name or by -s", async () => {
    for (const args of [
      ["exec", "web", "--", "echo", "-n", "hi"],
      ["x", "web", "echo", "-n", "hi"],
      ["exec", "-s", "web", "--", "echo", "-n", "hi"],
      ["exec", "-s", "web", "echo", "-n", "hi"],
    ]) {
      const { stdout, status, stderr } = await home.run(args);
      assert.deepEqual([status, stdout.toString()], [0, "hi"], `${args.join(" ")}: ${stderr}`);
    }
  });

  test("standard output and standard error stay apart; directory and environment arrive", async () => {
    const { stdout, stderr } = await home.run([
      "exec",
      "web",
      "--dir",
      "/tmp",
      "--env",
      "A=1",
      "--env",
      "B=x=y",
      "--",
      "sh",
      "-c",
      'echo "$A $B $(pwd)"; echo bad >&2',
    ]);
    assert.equal(stdout.toString(), "1 x=y /tmp\n");
    assert.equal(stderr, "bad\n");
  });

  test("standard input is forwarded with its end; without it the command reads nothing", async () => {
    assert.equal((await home.run(["exec", "web", "--", "cat"], { input: "over\nthe wire" })).stdout.toString(), "over\nthe wire");
    const child = home.start(["exec", "web", "--no-stdin", "--", "wc", "-c"]);
    assert.equal((await ended(child)).stdout.toString().trim(), "0");
  });

  test("5 MB go through unchanged, both ways", async () => {
    const input = Buffer.alloc(5_000_000, "0123456789abcdef\n");
    const { stdout, status } = await home.run(["exec", "web", "--", "cat"], { input });
    assert.equal(status, 0);
    assert.equal(createHash("sha256").update(stdout).digest("hex"), createHash("sha256").update(input).digest("hex"));
  });

  test("the end of the command ends hob, though its input is still open", async () => {
    const child = home.start(["exec", "web", "--", "true"]);
    assert.equal((await ended(child)).status, 0);
  });

  test("a connection that breaks is an error, never 0", async () => {
    for (const command of ["test:drop", "test:close", "test:partial"]) {
      const { status, stderr } = await home.run(["exec", "web", "--", command]);
      assert.equal(status, 1, command);
      assert.match(stderr, /^hob: exec: .*\n/);
      assert.doesNotMatch(stderr, /^\s+at /m);
    }
    assert.equal((await home.run(["exec", "web", "--", "test:partial"])).stdout.toString(), "half an answer");
  });

  test("an unknown sprite is an error with the server's hint", async () => {
    const { status, stderr } = await home.run(["exec", "nope", "--", "true"]);
    assert.deepEqual([status, stderr], [1, "hob: no sprite nope\nhint: 'hob list' shows them\n"]);
  });

  test("signals to hob reach the command, whose end becomes that of hob", async () => {
    for (const [signal, status] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
      ["SIGHUP", 129],
    ] as const) {
      const child = home.start(["exec", "web", "--", "sh", "-c", "echo ready; exec sleep 30"]);
      const end = ended(child);
      await new Promise((resolve) => child.stdout.once("data", resolve));
      child.kill(signal);
      assert.equal((await end).status, status, signal);
      assert.ok(daemon.clientFrames.includes(JSON.stringify({ type: "signal", signal })));
    }
  });

  test("a command may handle a signal; one that ignores three is left alone", async () => {
    const child = home.start(["exec", "web", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"]);
    const end = ended(child);
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGINT");
    const { status, stdout } = await end;
    assert.deepEqual([status, stdout.toString()], [5, "ready\ncaught\n"]);

    const stubborn = home.start(["exec", "web", "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    const stubbornEnd = ended(stubborn);
    await new Promise((resolve) => stubborn.stdout.once("data", resolve));
    for (let count = 0; count < 3; count++) {
      stubborn.kill("SIGTERM");
      await sleep(100);
    }
    assert.equal((await stubbornEnd).status, 143);
  });

  test("a reader that goes away ends the command by SIGPIPE and hob quietly", async () => {
    const child = home.start(["exec", "web", "--", "yes"]);
    const end = ended(child);
    child.stdout.once("data", () => child.stdout.destroy());
    const { status, stderr } = await end;
    assert.deepEqual([status, stderr], [141, ""]);
    assert.ok(daemon.clientFrames.includes(JSON.stringify({ type: "signal", signal: "SIGPIPE" })));
  });

  test("under an older Node.js, signals and exit status pass through the launcher", async () => {
    assert.equal((await ended(spawn("node", [HOB, "exec", "web", "--", "sh", "-c", "exit 9"], { env: home.env }))).status, 9);
    const child = spawn("node", [HOB, "exec", "web", "--", "sh", "-c", "echo ready; exec sleep 30"], { env: home.env });
    const end = ended(child);
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGTERM");
    assert.equal((await end).status, 143);
  });
});

test("the command of exec is told apart from hob's own flags", () => {
  const cases: [string, string][] = [
    ["web ls -l", "web -- ls -l"],
    ["web -- ls -l", "web -- ls -l"],
    ["--dir /tmp web ls -t", "--dir /tmp web -- ls -t"],
    ["web --dir /tmp ls --dir", "web --dir /tmp -- ls --dir"],
    ["-s web ls -l", "-s web -- ls -l"],
    ["--sprite=web ls", "--sprite=web -- ls"],
    ["web -t bash -l", "web -t -- bash -l"],
    ["web", "web"],
    ["", ""],
    ["-- ls -l", "-s chosen -- ls -l"],
    ["--dir /tmp -- ls", "-s chosen --dir /tmp -- ls"],
    ["-s web -- ls", "-s web -- ls"],
  ];
  for (const [given, wanted] of cases)
    assert.deepEqual(
      separateCommand(given.split(" ").filter(Boolean), () => "chosen"),
      wanted.split(" ").filter(Boolean),
      given,
    );
});
