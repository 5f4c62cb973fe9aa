import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Session, SessionKillEvent, SessionKillStream, SpriteCommand } from "@fly/sprites";
import { TestTerminal } from "../../packages/cli/test/support/terminal.ts";
import { covers } from "./support/covers.ts";
import { outputOf, shell } from "./support/exec.ts";
import { HOB, startHob } from "./support/hob.ts";
import { useDaemon } from "./support/suite.ts";
import { refusedUpgrade } from "./support/upgrade.ts";
import { until } from "./support/wait.ts";

covers("HEAD /v1/sprites/{name}/exec", "WSS /v1/sprites/{name}/exec/{session_id}", "POST /v1/sprites/{name}/exec/{session_id}/kill");

const LIMIT = { timeout: 180_000 };

const suite = useDaemon({ sprites: ["box"] });
const box = () => suite.sprite("box");

interface Watched {
  command: SpriteCommand;
  id: string;
  output(): string;
  exited: Promise<number>;
}

/** What the SDK gives of a session that was begun or attached to. */
async function watch(command: SpriteCommand): Promise<Watched> {
  const chunks: Buffer[] = [];
  const infos: { type?: string; session_id?: string }[] = [];
  command.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  command.on("message", (message) => infos.push(message));
  command.on("error", () => {});
  // Not once(): it would reject when the connection breaks, which some of these tests want.
  const exited = new Promise<number>((resolve) => command.once("exit", resolve));
  await once(command, "spawn");
  await until("session_info", () => infos.some(({ type }) => type === "session_info"));
  const id = infos.find(({ type }) => type === "session_info")?.session_id ?? "";
  return { command, id, output: () => Buffer.concat(chunks).toString(), exited };
}

/** The SDK has no way to leave without ending; the connection just goes. */
async function leave({ command, exited }: Pick<Watched, "command" | "exited">): Promise<void> {
  (command as unknown as { wsCmd: { ws: WebSocket } }).wsCmd.ws.close();
  await exited;
}

/** A `hob` that was started, to its end; the test's own limit bounds it. */
async function ended(child: ReturnType<typeof startHob>): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const [stdout, stderr, [status]] = await Promise.all([child.stdout.toArray(), child.stderr.toArray(), once(child, "close")]);
  return { status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}

const sessionOf = async (id: string): Promise<Session | undefined> => (await box().listSessions()).find((session) => session.id === id);
const eventsOf = async (stream: SessionKillStream): Promise<SessionKillEvent[]> => {
  const events: SessionKillEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
};

describe("detach, list, attach", () => {
  test("createSession outlives its client, and attachSession brings scrollback and goes on", LIMIT, async () => {
    const first = await watch(box().createSession("bash", ["--norc"]));
    first.command.stdin.write("echo one-$((1+1))\n");
    await until("its output", () => first.output().includes("one-2\r\n"));
    await leave(first);
    await until("it is detached", async () => (await sessionOf(first.id))?.isActive === false);
    const listed = (await sessionOf(first.id)) ?? assert.fail("it is not listed");
    assert.deepEqual([listed.command, listed.workdir, listed.tty], ["bash --norc", "/home/sprite", true]);
    assert.ok(listed.created instanceof Date && Number(listed.created) <= Date.now());
    assert.ok(listed.lastActivity instanceof Date && listed.bytesPerSecond >= 0);

    const second = await watch(box().attachSession(first.id));
    await until("the scrollback", () => second.output().includes("one-2\r\n"));
    assert.equal(second.id, first.id);
    second.command.stdin.write("echo two-$((1+1)); exit 0\n");
    assert.equal(await second.exited, 0);
    assert.match(second.output(), /two-2\r\n/);
    assert.equal(await sessionOf(first.id), undefined, "an ended session is not listed");
  });

  test("a command without a terminal: its grace time, then it is hung up; attached to within it, it stays", LIMIT, async () => {
    const command = box().spawn("sh", ["-c", "echo up; exec sleep 300"], { maxRunAfterDisconnect: "2s" });
    const first = { command, exited: once(command, "exit").then(([code]) => code as number) };
    command.stdout.resume();
    await once(command, "spawn");
    const id = (await box().listSessions())[0]?.id ?? assert.fail("it is not listed");
    await leave(first);
    const second = await watch(box().attachSession(id));
    await until("its output so far", () => second.output() === "up\n");
    await leave(second);
    await until("it is hung up", async () => (await sessionOf(id)) === undefined);
    assert.notEqual((await shell(box(), "pgrep -f '^sleep 300'")).code, 0);
  });

  test("what is not there: attach to an unknown session, kill it", LIMIT, async () => {
    const errors: Error[] = [];
    box()
      .attachSession("999999")
      .on("error", (error) => errors.push(error));
    await until("the SDK says so", () => errors.length > 0);
    const { status, body } = await refusedUpgrade(`${suite.daemon.url}/v1/sprites/box/exec/999999`, suite.daemon.token);
    assert.deepEqual([status, body.error, body.message], [404, "not_found", "session not found: 999999"]);
    await assert.rejects(box().killSession("999999"), /404|not found/);
    const head = await suite.daemon.fetch("/v1/sprites/box/exec", { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.ok(head.headers.get("sprite-version"));
  });
});

describe("kill", () => {
  test("SIGTERM, and the status; again: 410", LIMIT, async () => {
    const { id, exited, command } = await watch(box().createSession("sleep", ["300"]));
    command.stdout.resume();
    const events = await eventsOf(await box().killSession(id, "SIGTERM", "10s"));
    assert.deepEqual(
      events.map(({ type }) => type),
      ["signal", "exited", "complete"],
    );
    assert.equal(events.at(-1)?.exitCode, 143);
    assert.equal(await exited, 1, "all that this SDK can know");
    await assert.rejects(box().killSession(id), /410|already ended/);
  });

  test("one that ignores the signal: SIGKILL; a signal that is none: 400; 0s only delivers", LIMIT, async () => {
    const { id, exited, output } = await watch(
      box().createSession("sh", ["-c", "trap '' TERM; trap 'echo caught' USR1; echo ready; while :; do sleep 0.1; done"]),
    );
    await until("the traps are set", () => output().includes("ready"));
    await assert.rejects(box().killSession(id, "SIGNOPE"), /400|no such signal/);
    await eventsOf(await box().killSession(id, "USR1", "0s"));
    await until("the signal arrives", () => output().includes("caught"));
    const events = await eventsOf(await box().killSession(id, "SIGTERM", "500ms"));
    assert.deepEqual(
      events.map(({ type }) => type),
      ["signal", "timeout", "killed", "complete"],
    );
    assert.equal(events.at(-1)?.exitCode, 137);
    await exited;
  });
});

describe("hob", () => {
  test("exec --detach, sessions list, attach, sessions kill", LIMIT, async () => {
    const { daemon } = suite;
    const started = await daemon.hob("exec", "--detach", "box", "--", "sh", "-c", "echo working; exec sleep 300");
    assert.equal(started.code, 0, started.stderr);
    const id = started.stdout.trim();
    assert.match((await daemon.hob("sessions", "list", "box")).stdout, new RegExp(`^${id} +- +no .*sh -c echo working`, "m"));
    const attached = ended(startHob(["attach", "box", id], daemon.env));
    await until("it is attached", async () => (await sessionOf(id))?.isActive === true);
    const killed = await daemon.hob("sessions", "kill", "box", id);
    assert.deepEqual([killed.code, killed.stdout], [0, `Session ${id} has ended with status 143\n`]);
    const { status, stdout } = await attached;
    assert.deepEqual([status, stdout], [143, "working\n"]);
    const late = await daemon.hob("attach", "box", id);
    assert.deepEqual([late.code, late.stdout], [143, "working\n"]);
  });

  test("Ctrl+\\ leaves a console, and hob attach comes back to it", LIMIT, async () => {
    using first = new TestTerminal([HOB, "console", "box"], suite.daemon.env);
    await first.waitFor(/sprite@sprite/);
    first.type("echo kept-$((20 + 3))\r");
    await first.waitFor(/kept-23\r\n/);
    first.type("\x1c");
    const [, id] = await first.waitFor(/'hob attach box (\d+)' comes back to it/);
    assert.equal(await first.exited, 0);
    using second = new TestTerminal([HOB, "attach", "box", id ?? ""], suite.daemon.env);
    await second.waitFor(/kept-23\r\n/);
    second.type("stty size; exit 3\r");
    await second.waitFor(/30 90\r\n/);
    assert.equal(await second.exited, 3);
  });

  test("a daemon that is killed under exec: nothing of output or input is lost or doubled", LIMIT, async () => {
    const { daemon } = suite;
    const count = startHob(
      [
        "exec",
        "--no-stdin",
        "box",
        "--",
        "sh",
        "-c",
        "i=0; while [ $i -lt 1500 ]; do echo $i; i=$((i+1)); [ $((i % 100)) -ne 0 ] || sleep 0.4; done; exit 5",
      ],
      daemon.env,
    );
    const sum = startHob(["exec", "box", "--", "sha256sum"], daemon.env);
    const [counted, summed] = [ended(count), ended(sum)];
    const digest = createHash("sha256");
    const send = (bytes: number, fill: number) => {
      const piece = Buffer.alloc(bytes, fill);
      digest.update(piece);
      sum.stdin.write(piece);
    };
    await once(count.stdout, "data");
    await until("both run", async () => (await box().listSessions()).length === 2);
    for (let i = 0; i < 20; i++) send(100_000, i);
    await daemon.kill9();
    for (let i = 20; i < 25; i++) send(100_000, i);
    await daemon.restart();
    for (let i = 25; i < 30; i++) send(100_000, i);
    sum.stdin.end();
    const { status, stdout, stderr } = await counted;
    assert.equal(stdout, Array.from({ length: 1_500 }, (_, i) => `${i}\n`).join(""), stderr);
    assert.equal(status, 5);
    assert.equal((await summed).stdout, `${digest.digest("hex")}  -\n`);
  });
});

test("a session that a killed daemon leaves can be attached to by offset", LIMIT, async () => {
  const { daemon } = suite;
  const script = "echo first; until [ -e /tmp/go ]; do sleep 0.1; done; echo second; exit 7";
  const first = await watch(box().createSession("sh", ["-c", script]));
  await until("its output", () => first.output() === "first\r\n");
  await daemon.kill9();
  await daemon.restart();
  await outputOf(box(), "touch /tmp/go");
  const attached = await daemon.hob("attach", "box", first.id, "--offset", String("first\r\n".length));
  assert.deepEqual([attached.code, attached.stdout], [7, "second\r\n"], attached.stderr);
});

test("nothing of commands and variables is in any log", LIMIT, async () => {
  const { daemon } = suite;
  await shell(box(), "exit 0 # s3cret-argument", { env: { A: "s3cret-value" } });
  const { id, exited, command } = await watch(
    box().createSession("sleep", ["300", "s3cret-argument"].slice(0, 1), { env: { A: "s3cret-value" } }),
  );
  command.stdout.resume();
  await refusedUpgrade(`${daemon.url}/v1/sprites/box/exec?cmd=s3cret&dir=s3cret`, daemon.token);
  await refusedUpgrade(`${daemon.url}/v1/sprites/box/exec/1?output_offset=s3cret`, daemon.token);
  await assert.rejects(box().killSession(id, "s3cret"));
  await eventsOf(await box().killSession(id, "KILL"));
  await exited;
  for (const file of [join(daemon.home, "hobd.log"), ...globSync(join(daemon.home, "sprites/*/console.log"))]) {
    assert.doesNotMatch(readFileSync(file, "utf8"), /s3cret/, file);
  }
  assert.doesNotMatch(daemon.stderr, /s3cret/);
});
