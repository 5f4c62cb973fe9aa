import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HobClient } from "@hob/client";
import { HobError, type KillEvent } from "@hob/protocol";
import { BROKEN_OUTPUT } from "./support/broken-sessions.ts";
import { errorBody, TEST_TOKEN, TestDaemon } from "./support/test-daemon.ts";

let daemon: TestDaemon;
let client: HobClient;

before(async () => {
  daemon = await TestDaemon.start();
  daemon.add("web");
  client = new HobClient({ url: daemon.url, token: TEST_TOKEN });
});
after(() => daemon.close());

async function eventsOf(stream: AsyncIterable<KillEvent>): Promise<KillEvent[]> {
  const events: KillEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

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

describe("a connection that breaks, with resume", () => {
  test("nothing of the output is lost or doubled, and the status arrives", async () => {
    const session = await client.exec("web", { command: ["broken:output"], resume: {} });
    const pieces: Buffer[] = [];
    for (const output of [session.stdout, session.stderr]) output.on("data", (chunk: Buffer) => pieces.push(chunk));
    assert.equal(await session.exit, 6);
    await Promise.all([session.stdout, session.stderr].map((output) => output.readableEnded || once(output, "end")));
    assert.equal(Buffer.concat(pieces).length, BROKEN_OUTPUT.length);
    assert.ok((daemon.broken.connections.get(session.info?.session_id ?? "") ?? 0) > 3);
  });

  test("each stream is complete and in order", async () => {
    const session = await client.exec("web", { command: ["broken:once-more"], resume: {} });
    const [stdout, stderr] = await Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
    const expected = [1, 2].map((stream) =>
      Buffer.concat(
        Array.from({ length: 100 }, (_, i) => (1 + (i % 2) === stream ? BROKEN_OUTPUT.subarray(i * 500, (i + 1) * 500) : Buffer.alloc(0))),
      ),
    );
    assert.ok(Buffer.concat(stdout).equals(expected[0] ?? Buffer.alloc(0)));
    assert.ok(Buffer.concat(stderr).equals(expected[1] ?? Buffer.alloc(0)));
  });

  test("input that was on its way is sent again, once, and its end as well", async () => {
    const session = await client.exec("web", { command: ["broken:input"], stdin: true, resume: {} });
    session.stdout.resume();
    session.stderr.resume();
    const input = Buffer.from(Array.from({ length: 1_500_000 }, (_, i) => (i * 13 + (i >> 8)) & 0xff));
    session.stdin.end(input);
    assert.equal(await session.exit, 0);
    const id = session.info?.session_id ?? "";
    assert.ok(daemon.broken.input.get(id)?.equals(input), `${daemon.broken.input.get(id)?.length} bytes`);
    assert.ok((daemon.broken.connections.get(id) ?? 0) > 2);
  });

  test("output that is gone is told; a session of another time is not taken for this one", async () => {
    daemon.broken.dropped = 40_000;
    let gap = 0;
    const session = await client.exec("web", { command: ["broken:output"], resume: { onGap: (bytes) => (gap += bytes) } });
    session.stdout.resume();
    session.stderr.resume();
    assert.equal(await session.exit, 6);
    daemon.broken.dropped = 0;
    assert.equal(gap, 40_000 - 25 * 500);

    daemon.broken.replaced = true;
    const other = await client.exec("web", { command: ["broken:output"], resume: {} });
    other.stdout.resume();
    other.stderr.resume();
    await assert.rejects(other.exit, /another one has its id/);
    daemon.broken.replaced = false;
  });

  test("an attempt to come back of which nobody knows what became of it is followed by another one", async () => {
    let told = 0;
    const comesBack = () => {
      told++;
      daemon.faults = {};
    };
    const session = await client.exec("web", { command: ["broken:output"], resume: { onWaiting: comesBack } });
    daemon.faults = { refuseExec: { status: 502, body: errorBody("outcome_unknown", "it was lost with the request") } };
    for (const output of [session.stdout, session.stderr]) output.resume();
    assert.equal(await session.exit, 6);
    assert.equal(told, 1);
  });

  test("a daemon that stays away: the tries end, each way of ending says why", async () => {
    const session = await client.exec("web", { command: ["broken:output"], resume: { timeoutMs: 1_000, onWaiting: () => (told += 1) } });
    let told = 0;
    session.stdout.resume();
    session.stderr.resume();
    daemon.faults = { refuseExec: { status: 503, body: errorBody("shutting_down", "the daemon is stopping") } };
    await assert.rejects(
      session.exit,
      (thrown: unknown) => lost(thrown) && /could not be made again: the daemon is stopping/.test((thrown as HobError).hint ?? ""),
    );
    assert.equal(told, 1);
    daemon.faults = { refuseExec: { status: 404, body: errorBody("not_found", "session not found") } };
    const gone = await client.exec("web", { command: ["broken:output"], resume: {} }).catch((error: HobError) => error);
    assert.ok(gone instanceof HobError && gone.code === "not_found");
    daemon.faults = {};
    const left = await client.exec("web", { command: ["broken:output"], resume: {} });
    daemon.faults = { refuseExec: { status: 503, body: errorBody("shutting_down", "the daemon is stopping") } };
    left.stdout.resume();
    left.stderr.resume();
    setTimeout(() => left.close(), 150);
    await assert.rejects(left.exit, /left before the command ended/);
    daemon.faults = {};
  });
});

describe("sessions", () => {
  test("attach: the kind of session is known when it resolves; an unknown one is refused", async () => {
    const first = await client.exec("web", { command: ["broken:output"] });
    first.stdout.resume();
    first.stderr.resume();
    await assert.rejects(first.exit, lost);
    const session = await client.attach("web", first.info?.session_id ?? "", { outputOffset: 49_000, resume: {} });
    assert.deepEqual([session.info?.tty, session.info?.output_offset], [false, 49_000]);
    const [stdout] = await Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
    assert.ok(Buffer.concat(stdout).equals(BROKEN_OUTPUT.subarray(49_000, 49_500)));
    assert.equal(await session.exit, 6);
    await assert.rejects(client.attach("web", "9"), { code: "not_found" });
  });

  test("list and kill", async () => {
    const item = { id: "7", command: "bash" };
    daemon.sessionAnswers.set("GET /exec", { status: 200, body: JSON.stringify({ count: 1, sessions: [item] }) });
    assert.deepEqual(await client.sessions("web"), [item]);
    daemon.sessionAnswers.set("GET /exec", { status: 200, body: "[]" });
    await assert.rejects(client.sessions("web"), { code: "bad_answer" });
    daemon.sessionAnswers.set("POST /exec/7/kill", { status: 200, body: '{"type":"signal"}\n{"type":"complete","exit_code":143}\n' });
    assert.deepEqual(await eventsOf(client.killSession("web", "7", { signal: "INT", timeoutSeconds: 3 })), [
      { type: "signal" },
      { type: "complete", exit_code: 143 },
    ]);
    assert.equal(daemon.requests.at(-1)?.url.search, "?signal=INT&timeout=3s");
    daemon.sessionAnswers.set("POST /exec/7/kill", { status: 410, body: errorBody("gone", "session 7 has already ended") });
    await assert.rejects(eventsOf(client.killSession("web", "7")), { code: "gone" });
    daemon.sessionAnswers.clear();
  });
});
