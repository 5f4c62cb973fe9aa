import assert from "node:assert/strict";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ExecError, type Sprite, type SpriteCommand, SpritesClient } from "@fly/sprites";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startExecServer } from "./support/exec-server.ts";
import { waitFor } from "./support/helper.ts";

/** The published JavaScript SDK against the real endpoint, helper and container. */
/**
 * The SDK takes one read of the body for one frame: when this process is held up for longer than the pause between
 * frames it misreads the second, whatever the server does.
 */
async function severalTries(attempt: () => Promise<void>): Promise<void> {
  for (let left = 3; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 1) throw error;
    }
  }
}

describe("exec through the SDK", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startExecServer);
  let sprite: Sprite;
  before(() => {
    sprite = new SpritesClient("token", { baseURL: suite.server.baseURL }).sprite("test");
  });

  const sh = (script: string, options = {}) => sprite.execFile("sh", ["-c", script], options);
  const exitCode = (script: string) =>
    sh(script).then(
      () => 0,
      (error: ExecError) => error.exitCode,
    );
  const collect = (command: SpriteCommand) => {
    const chunks: Buffer[] = [];
    command.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    return () => Buffer.concat(chunks).toString("utf8");
  };
  const exit = async (command: SpriteCommand): Promise<number> => (await once(command, "exit"))[0];

  test("output is split", async () => {
    const { stdout, stderr } = await sh("echo out; echo err >&2");
    assert.deepEqual([stdout, stderr], ["out\n", "err\n"]);
  });

  test("exit codes", async () => {
    assert.equal(await exitCode("exit 0"), 0);
    assert.equal(await exitCode("exit 42"), 42);
    assert.equal(await exitCode("kill -TERM $$"), 143);
    const missing = await sprite.execFile("no-such-program").catch((error: ExecError) => error);
    assert.ok(missing instanceof ExecError);
    assert.deepEqual([missing.exitCode, missing.stderr], [127, "hob: no-such-program: command not found\n"]);
  });

  test("environment and directory", async () => {
    const env = (await sprite.execFile("env", [], { env: { MINE: "a=b c" } })).stdout;
    for (const line of ["MINE=a=b c", "FROM_SPRITE=yes", "HOME=/home/sprite", "USER=sprite", "LANG=C.UTF-8"])
      assert.match(String(env), new RegExp(`^${line}$`, "m"));
    assert.equal((await sprite.exec("pwd")).stdout, "/home/sprite\n");
    assert.equal((await sprite.exec("pwd", { cwd: "/tmp" })).stdout, "/tmp\n");
    assert.equal((await sprite.exec("id -un")).stdout, "sprite\n");
  });

  test("standard input and its end", async () => {
    const command = sprite.spawn("cat");
    const out = collect(command);
    const ended = exit(command);
    await once(command, "spawn");
    command.stdin.write("hello ");
    command.stdin.end("world");
    assert.equal(await ended, 0);
    assert.equal(out(), "hello world");
  });

  test("2 MB of standard input", async () => {
    const command = sprite.spawn("sh", ["-c", "sleep 0.2; md5sum; echo done"]);
    const out = collect(command);
    const ended = exit(command);
    await once(command, "spawn");
    for (let i = 0; i < 64; i++) command.stdin.write(Buffer.alloc(32 * 1024, i));
    command.stdin.end();
    assert.equal(await ended, 0);
    const { createHash } = await import("node:crypto");
    const expected = createHash("md5");
    for (let i = 0; i < 64; i++) expected.update(Buffer.alloc(32 * 1024, i));
    assert.equal(out(), `${expected.digest("hex")}  -\ndone\n`);
  });

  test("no terminal: 'not a tty'", async () => {
    const result = await sprite.exec("tty").catch((error: ExecError) => error);
    assert.ok(result instanceof ExecError);
    assert.deepEqual([result.exitCode, result.stdout], [1, "not a tty\n"]);
  });

  test("a terminal: path, size from the first moment, resize, exit code by the close code", async () => {
    const run = async (options: object, file: string, ...args: string[]) => {
      const command = sprite.spawn(file, args, { tty: true, ...options });
      const out = collect(command);
      return { code: await exit(command), out: out() };
    };
    assert.match((await run({}, "tty")).out, /^\/dev\/pts\/\d+\r\n$/);
    assert.deepEqual(await run({}, "stty", "size"), { code: 0, out: "24 80\r\n" });
    assert.deepEqual(await run({ rows: 40, cols: 120 }, "stty", "size"), { code: 0, out: "40 120\r\n" });
    assert.equal((await run({}, "sh", "-c", "exit 7")).code, 1, "all this SDK can know");
    const command = sprite.spawn("bash", ["--norc"], { tty: true, rows: 24, cols: 80 });
    const out = collect(command);
    await once(command, "spawn");
    command.resize(132, 50);
    command.stdin.write("stty size; exit\n");
    assert.equal(await exit(command), 0);
    assert.match(out(), /50 132/);
  });

  test("signals", async () => {
    const command = sprite.spawn("sh", ["-c", "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.05; done"]);
    const out = collect(command);
    const ended = exit(command);
    await waitFor(() => out() === "ready\n", "start");
    command.signal("usr1");
    assert.equal(await ended, 5);
    assert.equal(out(), "ready\ngot\n");
    const sleeper = sprite.spawn("sleep", ["60"]);
    const killed = exit(sleeper);
    await once(sleeper, "spawn");
    sleeper.kill();
    assert.equal(await killed, 143);
  });

  test("5 MB and an exit at once", async () => {
    const { stdout } = await sh("head -c 5000000 /dev/zero | tr '\\0' x");
    assert.equal(String(stdout).length, 5_000_000);
  });

  test("200 quick commands lose nothing", async () => {
    const one = async (i: number) => assert.equal((await sprite.execFile("echo", [String(i)])).stdout, `${i}\n`);
    for (let i = 0; i < 200; i += 8) await Promise.all(Array.from({ length: 8 }, (_, k) => one(i + k)));
  });

  test("a command without a terminal outlives its client for its grace time", async () => {
    const command = sprite.spawn("sleep", ["60"], { maxRunAfterDisconnect: "300ms" });
    await once(command, "spawn");
    const [plain] = suite.server.endpoint.sessions.list();
    assert.ok(plain);
    closeSocket(command);
    await sleep(150);
    assert.ok(exists(plain.process.pid), "still in its grace time");
    assert.equal(await plain.done, 129);
    await waitFor(() => !exists(plain.process.pid), "end of the process");
    assert.equal(suite.server.endpoint.sessions.size, 0);
  });

  test("HTTP exec", async () => {
    const run = (file: string, args: string[], options = {}) => sprite.execFileHTTP(file, args, options);
    await severalTries(async () => {
      const { stdout, stderr } = await run("sh", ["-c", "echo out; echo err >&2; cat"], { input: "in" });
      assert.deepEqual([stdout, stderr], ["out\nin", "err\n"]);
    });
    await severalTries(async () => {
      const failed = await run("sh", ["-c", "printf x; exit 3"]).catch((error: ExecError) => error);
      assert.ok(failed instanceof ExecError);
      assert.deepEqual([failed.exitCode, failed.stdout], [3, "x"]);
    });
    await severalTries(async () => {
      const large = await run("sh", ["-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2"]);
      assert.deepEqual([String(large.stdout).length, large.stderr], [1_000_000, "end\n"]);
    });
    for (let i = 0; i < 30; i++) await severalTries(async () => assert.equal((await run("echo", [String(i)])).stdout, `${i}\n`));
  });

  test("neither arguments nor variables are logged", async () => {
    await sprite.execFile("echo", ["s3cret-argument"], { env: { A: "s3cret-value" } });
    await sprite.execFile("x", [], { cwd: "relative-s3cret" }).catch(() => {});
    assert.doesNotMatch(suite.server.log(), /s3cret/);
  });

  // Last: the container does not come back.
  test("the end of the container ends its sessions, with a message and 137", async () => {
    const plain = sprite.spawn("sleep", ["60"]);
    let errors = "";
    plain.stderr.on("data", (chunk) => (errors += chunk));
    const terminal = sprite.spawn("sleep", ["60"], { tty: true });
    const shown = collect(terminal);
    await Promise.all([once(plain, "spawn"), once(terminal, "spawn")]);
    const ends = Promise.all([exit(plain), exit(terminal)]);
    suite.container.stop();
    assert.deepEqual(await ends, [137, 1]);
    assert.match(errors, /^hob: the sprite's container has stopped/);
    assert.match(shown(), /hob: the sprite's container has stopped/);
    suite.server.setState("stopped");
    await assert.rejects(sprite.exec("true"));
    suite.server.containerStopped();
  });
});

/** The SDK has no way to leave without ending; the connection just goes. */
function closeSocket(command: SpriteCommand): void {
  (command as unknown as { wsCmd: { ws: WebSocket } }).wsCmd.ws.close();
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
