import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HobClient } from "@hob/client";
import { HobError } from "@hob/protocol";
import { errorBody, TEST_TOKEN, TestDaemon } from "./support/test-daemon.ts";

let daemon: TestDaemon;
let client: HobClient;

before(async () => {
  daemon = await TestDaemon.start();
  daemon.add("web");
  client = new HobClient({ url: daemon.url, token: TEST_TOKEN });
});
after(() => daemon.close());

const lost = (thrown: unknown): boolean => thrown instanceof HobError && thrown.code === "connection_lost";

describe("without a terminal", () => {
  test("output, error output, exit status, directory and environment", async () => {
    const result = await client.run("web", {
      command: ["sh", "-c", 'echo "$A $(pwd)"; echo err >&2; exit 42'],
      dir: "/tmp",
      env: { A: "a=b c" },
    });
    assert.equal(result.stdout.toString(), "a=b c /tmp\n");
    assert.equal(result.stderr.toString(), "err\n");
    assert.equal(result.exitCode, 42);
  });

  test("input reaches the command and ends", async () => {
    const input = "x".repeat(3_000_000);
    const result = await client.run("web", { command: ["wc", "-c"], input });
    assert.equal(result.stdout.toString().trim(), "3000000");
  });

  test("5 MB go both ways unchanged", async () => {
    const input = Buffer.alloc(5_000_000);
    for (let index = 0; index < input.length; index++) input[index] = (index * 31) & 0xff;
    const { stdout, exitCode } = await client.run("web", { command: ["cat"], input });
    assert.equal(exitCode, 0);
    assert.equal(createHash("sha256").update(stdout).digest("hex"), createHash("sha256").update(input).digest("hex"));
  });

  test("a reader that does not read holds up the command, and loses nothing", async () => {
    const session = await client.exec("web", { command: ["head", "-c", "40000000", "/dev/zero"] });
    await sleep(700);
    const buffered = session.stdout.readableLength;
    assert.ok(buffered < 2_000_000, `${buffered} bytes were taken in`);
    let bytes = 0;
    for await (const chunk of session.stdout) bytes += (chunk as Buffer).length;
    assert.equal(bytes, 40_000_000);
    assert.equal(await session.exit, 0);
  });

  test("a command that does not read holds up the writer", async () => {
    const session = await client.exec("web", { command: ["sleep", "5"], stdin: true });
    let written = 0;
    const block = Buffer.alloc(1_000_000);
    while (written < 60 && session.stdin.write(block)) written++;
    const drained = await Promise.race([new Promise((resolve) => session.stdin.once("drain", () => resolve(true))), sleep(700, false)]);
    for (; drained && written < 60; written++) {
      if (session.stdin.write(block)) continue;
      const more = await Promise.race([new Promise((resolve) => session.stdin.once("drain", () => resolve(true))), sleep(700, false)]);
      if (!more) break;
    }
    assert.ok(written < 40, `${written} MB were taken by a command that reads nothing`);
    session.close();
  });

  test("signals are delivered; death by signal is 128 + n", async () => {
    const session = await client.exec("web", { command: ["sleep", "30"] });
    session.stdout.resume();
    session.stderr.resume();
    session.sendSignal("SIGTERM");
    assert.equal(await session.exit, 143);
  });

  test("the exit frame ends the wait, also when the server does not close", async () => {
    assert.equal((await client.run("web", { command: ["test:no-close"] })).exitCode, 5);
    assert.equal((await client.run("web", { command: ["test:text-exit"] })).exitCode, 9);
  });

  test("frames of unknown kinds are passed over", async () => {
    assert.equal((await client.run("web", { command: ["test:junk"] })).exitCode, 4);
  });

  test("an end without an exit frame is an error, never 0", async () => {
    for (const command of ["test:drop", "test:close", "test:close-1011"])
      await assert.rejects(client.run("web", { command: [command] }), lost, command);
    await assert.rejects(client.run("web", { command: ["test:close-1011"] }), /the pilot went away/);
    await assert.rejects(client.run("web", { command: ["test:bad-exit"] }), /exit frame without a status/);
  });

  test("what came before the connection broke can still be read", async () => {
    const session = await client.exec("web", { command: ["test:partial"] });
    session.stderr.resume();
    const chunks = await session.stdout.toArray();
    assert.equal(Buffer.concat(chunks).toString(), "half an answer");
    await assert.rejects(session.exit, lost);
  });

  test("a refused upgrade carries the server's reason", async () => {
    await assert.rejects(
      client.exec("nope", { command: ["true"] }),
      (thrown: unknown) => thrown instanceof HobError && thrown.code === "not_found" && thrown.hint === "'hob list' shows them",
    );
    daemon.faults.refuseExec = { status: 502, body: errorBody("vm_failed", "the microVM did not start") };
    await assert.rejects(
      client.exec("web", { command: ["true"] }),
      (thrown: unknown) => thrown instanceof HobError && thrown.code === "vm_failed",
    );
    daemon.faults = {};
  });

  test("more than fits into a request is refused here, with a reason", async () => {
    await assert.rejects(
      client.exec("web", { command: ["echo", "x".repeat(300_000)] }),
      (thrown: unknown) => thrown instanceof HobError && thrown.code === "invalid_request",
    );
  });
});

describe("on a terminal", () => {
  test("size, raw output, resize and exit status", async () => {
    const script = "stty size; read _; stty size; exit 7";
    const session = await client.exec("web", { command: ["sh", "-c", script], tty: { cols: 91, rows: 31 }, stdin: true });
    let output = "";
    session.stderr.resume();
    session.stdout.on("data", (chunk: Buffer) => {
      const before = output;
      output += chunk.toString();
      if (!before.includes("31 91") && output.includes("31 91")) {
        session.resize({ cols: 100, rows: 40 });
        session.stdin.write("\r");
      }
    });
    assert.equal(await session.exit, 7);
    assert.match(output, /31 91[\s\S]*40 100/);
    assert.equal(session.info?.tty, true);
  });

  test("the end of input ends a program that reads lines, also in the middle of one", async () => {
    for (const input of ["line\n", "no line end"]) {
      const session = await client.exec("web", {
        command: ["sh", "-c", "stty -echo; cat >/dev/null; exit 3"],
        tty: { cols: 80, rows: 24 },
        stdin: true,
      });
      session.stdout.resume();
      await sleep(150);
      session.stdin.end(input);
      assert.equal(await session.exit, 3);
    }
  });
});
