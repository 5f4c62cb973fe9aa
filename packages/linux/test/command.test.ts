import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { HobError } from "@hob/protocol";
import { lastLines, SystemCommandRunner } from "../src/index.ts";

const runner = new SystemCommandRunner();
const folder = await mkdtemp(join(tmpdir(), "hob-command-"));
after(() => rm(folder, { recursive: true, force: true }));

/** A program on disk, so that arguments, streams and exit status are really carried. */
async function program(name: string, script: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

const rejection = async (work: Promise<unknown>): Promise<HobError> =>
  work.then(
    () => assert.fail("it should have failed"),
    (error) => error as HobError,
  );

describe("a program that succeeds", () => {
  test("gets its arguments as they are and gives both streams apart", async () => {
    const path = await program("echo-arguments", 'for argument; do printf "<%s>" "$argument"; done; echo problem >&2');
    const result = await runner.run({ argv: [path, "a b", "", "$HOME", "'; exit 9"], timeoutMs: 10_000 });
    assert.deepEqual(result, { stdout: "<a b><><$HOME><'; exit 9>", stderr: "problem\n" });
  });

  test("reads what it is given, then the end of its input; without input it has none", async () => {
    const input = Buffer.from([0, 255, 10, 13, 0]);
    const path = await program("count", "od -An -tx1");
    assert.equal((await runner.run({ argv: [path], stdin: input, timeoutMs: 10_000 })).stdout.trim(), "00 ff 0a 0d 00");
    assert.equal((await runner.run({ argv: ["cat"], stdin: "text", timeoutMs: 10_000 })).stdout, "text");
    assert.equal((await runner.run({ argv: ["cat"], timeoutMs: 10_000 })).stdout, "");
  });

  test("may leave its input unread", async () => {
    const megabytes = Buffer.alloc(8 * 1024 * 1024);
    assert.equal((await runner.run({ argv: ["true"], stdin: megabytes, timeoutMs: 10_000 })).stdout, "");
  });

  test("runs in the folder and with the environment that it is given, whole", async () => {
    const { stdout } = await runner.run({ argv: ["/bin/sh", "-c", "pwd; env"], cwd: folder, env: { ONLY: "this" }, timeoutMs: 10_000 });
    const lines = stdout.trimEnd().split("\n");
    assert.equal(lines[0], folder);
    assert(lines.includes("ONLY=this"));
    assert(!lines.some((line) => line.startsWith("HOME=")));
  });

  test("tells each line of its standard error once, whole, while it runs", async () => {
    const seen: { line: string; at: number }[] = [];
    const path = await program("steps", 'printf "one\\ntw" >&2; sleep 0.3; printf "o\\nthree\\n" >&2; sleep 0.3');
    await runner.run({ argv: [path], timeoutMs: 10_000, onStderrLine: (line) => seen.push({ line, at: performance.now() }) });
    assert.deepEqual(
      seen.map(({ line }) => line),
      ["one", "two", "three"],
    );
    assert(performance.now() - (seen[0]?.at ?? 0) > 200, "the first line came before the end");
  });
});

describe("a program that fails", () => {
  test("is told by its name, exit status and last words", async () => {
    const path = await program("fail", 'for i in 1 2 3 4 5 6 7 8; do echo "line $i" >&2; done; exit 3');
    const error = await rejection(runner.run({ argv: [path], timeoutMs: 10_000 }));
    assert.equal(error.code, "command_failed");
    assert.equal(error.details.exit_status, 3);
    assert.equal(error.details.program, path);
    assert.match(error.message, /exit status 3: line 3\n.*line 8$/s);
    assert(!error.message.includes("line 2\n"));
  });

  test("by a signal is told by the signal", async () => {
    const error = await rejection(runner.run({ argv: ["/bin/sh", "-c", "kill -TERM $$"], timeoutMs: 10_000 }));
    assert.deepEqual([error.code, error.message], ["command_failed", "run /bin/sh: killed by SIGTERM"]);
  });

  test("because it is not installed is missing, with the way to find out more", async () => {
    for (const name of ["hob-no-such-program", join(folder, "none")]) {
      const error = await rejection(runner.run({ argv: [name], timeoutMs: 10_000 }));
      assert.deepEqual([error.code, error.message], ["missing_tool", `run ${name}: not found`]);
      assert.match(error.hint ?? "", /hob doctor/);
    }
  });

  test("because it may not be run says so", async () => {
    const path = join(folder, "not-executable");
    await writeFile(path, "", { mode: 0o644 });
    const error = await rejection(runner.run({ argv: [path], timeoutMs: 10_000 }));
    assert.equal(error.code, "command_failed");
    assert.match(error.message, /EACCES/);
  });

  test("to end in time is killed, also when it ignores signals", async () => {
    const path = await program("hang", `trap "" TERM INT HUP; echo $$ >${folder}/pid; echo waiting >&2; while :; do sleep 0.05; done`);
    const start = performance.now();
    const error = await rejection(runner.run({ argv: [path], timeoutMs: 500 }));
    assert.equal(error.code, "timeout");
    assert.match(error.message, /no end after 500 ms: waiting/);
    assert(performance.now() - start < 5_000);
    const pid = Number(await readFile(join(folder, "pid"), "utf8"));
    assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  });
});

test("a program whose own children hold its output open is not waited for beyond its time", async () => {
  const path = await program("hang-with-child", `sleep 20 & echo $! >${folder}/child-pid; wait`);
  const start = performance.now();
  const error = await rejection(runner.run({ argv: [path], timeoutMs: 500 }));
  assert.equal(error.code, "timeout");
  assert(performance.now() - start < 5_000);
  process.kill(Number(await readFile(join(folder, "child-pid"), "utf8")));
});

test("an abort ends the program", async () => {
  const path = await program("abortable", `echo $$ >${folder}/abort-pid; exec sleep 60`);
  const controller = new AbortController();
  const work = runner.run({ argv: [path], timeoutMs: 60_000 }, controller.signal);
  const pid = await waitFor(async () => Number(await readFile(join(folder, "abort-pid"), "utf8").catch(() => "")) || undefined);
  controller.abort();
  const error = await rejection(work);
  assert.equal(error.code, "command_failed");
  await waitFor(async () => ((await stat(`/proc/${pid}`).catch(() => undefined)) === undefined ? true : undefined));
});

describe("output", () => {
  test("that goes to a file is there, private, and a failure quotes it", async () => {
    const file = join(folder, "output");
    const result = await runner.run({ argv: ["/bin/sh", "-c", "echo out; echo err >&2"], outputFile: file, timeoutMs: 10_000 });
    assert.deepEqual(result, { stdout: "", stderr: "" });
    assert.equal(await readFile(file, "utf8"), "out\nerr\n");
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const error = await rejection(runner.run({ argv: ["/bin/sh", "-c", "echo why; exit 1"], outputFile: file, timeoutMs: 10_000 }));
    assert.match(error.message, /exit status 1: why$/);
  });

  test("to a file does not wait for a process that is left behind, as a pipe would", async () => {
    const start = performance.now();
    const path = await program("leave", `sleep 5 & echo $! >${folder}/left-pid`);
    await runner.run({ argv: [path], outputFile: join(folder, "left"), timeoutMs: 10_000 });
    assert(performance.now() - start < 4_000);
    process.kill(Number(await readFile(join(folder, "left-pid"), "utf8")));
  });

  test("beyond the bound keeps its end", async () => {
    const command = "head -c 20000000 /dev/zero | tr '\\0' x; printf END";
    const { stdout } = await runner.run({ argv: ["/bin/sh", "-c", command], timeoutMs: 30_000 });
    assert(stdout.endsWith("xEND"));
    assert(stdout.length > 1024 * 1024 && stdout.length <= 5 * 1024 * 1024, `${stdout.length} bytes kept`);
  });
});

test("the last lines of a text do not count empty ones at its end", () => {
  assert.equal(lastLines("a\nb\nc\n\n", 2), "b\nc");
  assert.equal(lastLines("a", 3), "a");
  assert.equal(lastLines("", 3), "");
});

async function waitFor<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; await sleep(10)) {
    const found = await look();
    if (found !== undefined) return found;
  }
  return assert.fail("it did not happen within 10 s");
}
