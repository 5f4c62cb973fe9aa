import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeFrame, ItemWriter } from "../src/helper/frames.ts";
import { REQUEST, TAG } from "../src/helper/wire.ts";
import { buildHelper, collect, type RunningHelper, rootCommand, startHelper, waitFor } from "./support/helper.ts";

const isRoot = process.getuid?.() === 0;
const script = (text: string) => rootCommand("sh", "-c", text);
const ignore = { stdout: () => {}, stderr: () => {} };

describe("processes of the helper", { skip: isRoot ? false : "needs root" }, () => {
  let helper: RunningHelper;
  before(async () => {
    helper = await startHelper(buildHelper());
  });
  after(async () => {
    const reports = helper.stderr();
    await helper[Symbol.asyncDispose]();
    assert.equal(reports, "", "no sanitizer report");
  });

  test("output is split and the exit code is kept", async () => {
    assert.deepEqual(await collect(helper.client, script("echo out; echo err >&2; exit 42")), {
      code: 42,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  test("a signal is 128 + its number", async () => {
    assert.equal((await collect(helper.client, script("kill -TERM $$"))).code, 143);
    assert.equal((await collect(helper.client, script("kill -KILL $$"))).code, 137);
  });

  test("programs that do not run exit with 127 or 126 and say why", async () => {
    const run = async (...argv: string[]) => collect(helper.client, rootCommand(...argv));
    assert.deepEqual(await run("no-such"), { code: 127, stdout: "", stderr: "hob: no-such: command not found\n" });
    assert.deepEqual(await run("/no/such"), { code: 127, stdout: "", stderr: "hob: /no/such: No such file or directory\n" });
    assert.deepEqual(await run("/etc/passwd"), { code: 126, stdout: "", stderr: "hob: /etc/passwd: Permission denied\n" });
    assert.deepEqual(await run("/tmp"), { code: 126, stdout: "", stderr: "hob: /tmp: Permission denied\n" });
    assert.equal((await run("")).code, 127);
    const bad = await collect(helper.client, { ...rootCommand("true"), cwd: "/no/dir" });
    assert.deepEqual(bad, { code: 126, stdout: "", stderr: "hob: /no/dir: No such file or directory\n" });
  });

  test("PATH is that of the given environment, and nothing else is in it", async () => {
    assert.equal((await collect(helper.client, { ...rootCommand("true"), env: { PATH: "/nowhere" } })).code, 127);
    assert.equal(
      (await collect(helper.client, { ...rootCommand("env"), env: { PATH: "/usr/bin", A: "b=c\nd" } })).stdout,
      "PATH=/usr/bin\nA=b=c\nd\n",
    );
  });

  test("standard input reaches the process, and its end", async () => {
    assert.equal((await collect(helper.client, rootCommand("cat"), "hello")).stdout, "hello");
    const big = "0123456789abcdef".repeat(128 * 1024);
    assert.equal((await collect(helper.client, rootCommand("wc", "-c"), big)).stdout.trim(), String(big.length));
  });

  test("standard input is a pipe", async () => {
    assert.deepEqual(await collect(helper.client, rootCommand("tty")), { code: 1, stdout: "not a tty\n", stderr: "" });
    assert.match((await collect(helper.client, script("readlink /proc/self/fd/0"))).stdout, /^pipe:/);
  });

  test("no descriptor leaks into the process", async () => {
    assert.equal((await collect(helper.client, script("ls /proc/$$/fd"))).stdout, "0\n1\n2\n");
  });

  test("signal dispositions, mask and oom score are those of a fresh process", async () => {
    const status = (await collect(helper.client, rootCommand("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"))).stdout;
    assert.match(status, /SigBlk:\t0+\nSigIgn:\t0+\n/);
    assert.equal((await collect(helper.client, rootCommand("cat", "/proc/self/oom_score_adj"))).stdout, "0\n");
  });

  test("5 MB and an exit at once arrive complete at a slow reader", async () => {
    const child = await helper.client.exec(script("head -c 5000000 /dev/zero | tr '\\0' x; echo end >&2; exit 3"));
    let bytes = 0;
    let errors = "";
    child.start({
      stdout(chunk) {
        bytes += chunk.length;
        child.pause();
        setTimeout(() => child.resume(), 2);
      },
      stderr(chunk) {
        errors += chunk;
      },
    });
    assert.deepEqual(await child.exited, { code: 3, containerGone: false });
    assert.equal(bytes, 5_000_000);
    assert.equal(errors, "end\n");
  });

  test("what is in a pipe when the process ends is not lost, whoever else holds the pipe", async () => {
    // Writes until everything between it and the client, who does not read yet, is full; leaves a child with the pipes.
    const fill =
      'use Fcntl; my $kid = fork; if (!$kid) { sleep 60; exit } fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK); my $n = 0; my $full = 0; while ($full < 20) { my $w = syswrite(STDOUT, "x" x 4096); if (defined $w) { $n += $w; $full = 0 } else { $full++; select(undef, undef, undef, 0.01) } } syswrite(STDERR, "$n $kid")';
    const child = await helper.client.exec(rootCommand("perl", "-e", fill));
    await waitFor(() => !alive(child.pid), "end of the process");
    let out = 0;
    let report = "";
    child.start({
      stdout(chunk) {
        out += chunk.length;
      },
      stderr(chunk) {
        report += chunk;
      },
    });
    assert.equal((await child.exited).code, 0);
    const [written, kid] = report.split(" ");
    process.kill(Number(kid), "SIGKILL");
    assert.ok(out > 100_000);
    assert.equal(out, Number(written));
  });

  test("200 quick commands lose nothing", async () => {
    const run = async (i: number) => assert.equal((await collect(helper.client, script(`echo ${i}`))).stdout, `${i}\n`);
    for (let i = 0; i < 200; i += 8) await Promise.all(Array.from({ length: 8 }, (_, k) => run(i + k)));
  });

  test("signals get through to a program that never reads its input", async () => {
    const child = await helper.client.exec(rootCommand("sleep", "60"));
    child.start(ignore);
    child.write(Buffer.alloc(3_000_000));
    child.signal(15);
    assert.equal((await child.exited).code, 143);
  });

  test("output flows while input is stuck", async () => {
    const child = await helper.client.exec(script("exec 3<&0; head -c 1000000 /dev/zero; sleep 0.1; exit 5"));
    let bytes = 0;
    child.start({ ...ignore, stdout: (chunk) => (bytes += chunk.length) });
    child.write(Buffer.alloc(3_000_000));
    assert.equal((await child.exited).code, 5);
    assert.equal(bytes, 1_000_000);
  });

  test("a lost client ends the process: SIGHUP, then SIGKILL", async () => {
    const gone = (pid: number) => waitFor(() => !alive(pid), "end of the process", 8_000);
    const polite = await helper.client.exec(rootCommand("sleep", "60"));
    polite.start(ignore);
    polite.close();
    await gone(polite.pid);
    const stubborn = await helper.client.exec(script("trap '' HUP TERM; echo ready; while :; do sleep 0.1; done"));
    await new Promise<void>((resolve) => stubborn.start({ ...ignore, stdout: () => resolve() }));
    stubborn.close();
    await assert.rejects(stubborn.exited, { code: "helper_unreachable" });
    await sleep(500);
    assert.ok(alive(stubborn.pid), "SIGHUP is ignored");
    await gone(stubborn.pid);
  });

  test("a terminal has its size before the program starts, and is resized", async () => {
    const size = { ...rootCommand("stty", "size"), tty: { cols: 93, rows: 31 } };
    assert.equal((await collect(helper.client, size)).stdout, "31 93\r\n");
    const child = await helper.client.exec({
      ...script("trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.05; done"),
      tty: size.tty,
    });
    let out = "";
    child.start({
      ...ignore,
      stdout(chunk) {
        out += chunk;
        if (out === "ready\r\n") child.resize({ cols: 132, rows: 50 });
      },
    });
    assert.equal((await child.exited).code, 7);
    assert.match(out, /50 132/);
  });

  test("a terminal is the controlling one, and its signals go to the foreground", async (t) => {
    const tty = { cols: 80, rows: 24 };
    assert.match((await collect(helper.client, { ...script("tty; echo x >/dev/tty"), tty })).stdout, /^\/dev\/pts\/\d+\r\nx\r\n$/);
    const shell = await helper.client.exec({ ...rootCommand("bash", "--norc", "-i"), tty });
    t.after(() => shell.close());
    let out = "";
    shell.start({ ...ignore, stdout: (chunk) => (out += chunk) });
    shell.write(Buffer.from("stty -echo; PS1=; sleep 50; echo code=$?\n"));
    await waitFor(() => hasChild(shell.pid, "sleep"), "foreground job");
    shell.signal(15);
    await waitFor(() => out.includes("code=143"), "the shell to go on");
    shell.write(Buffer.from("sleep 51; echo next=$?\n"));
    await waitFor(() => hasChild(shell.pid, "sleep"), "foreground job");
    shell.signal(2);
    shell.write(Buffer.from("exit 9\n"));
    assert.equal((await shell.exited).code, 9);
  });

  test("5 MB through a terminal, and an exit at once, arrive complete", async () => {
    const child = await helper.client.exec({ ...script("stty raw; head -c 5000000 /dev/zero; printf END"), tty: { cols: 80, rows: 24 } });
    let bytes = 0;
    let tail = "";
    child.start({
      ...ignore,
      stdout(chunk) {
        bytes += chunk.length;
        tail = chunk.toString("latin1").slice(-3);
        if (bytes % 7 === 0) {
          child.pause();
          setTimeout(() => child.resume(), 1);
        }
      },
    });
    await child.exited;
    assert.equal(bytes, 5_000_003);
    assert.equal(tail, "END");
  });

  test("hostile frames are answered with an error, and harm nobody else", async () => {
    const item = (tag: number, value: Uint8Array) => new ItemWriter().bytes(tag, value).finish();
    const hostile: Buffer[] = [
      Buffer.from([0xff, 0xff, 0xff, 0xff, 1]),
      encodeFrame(0),
      encodeFrame(255, Buffer.alloc(1000)),
      encodeFrame(REQUEST.exec),
      encodeFrame(REQUEST.exec, Buffer.from([TAG.arg, 255, 255, 255, 255, 0])),
      encodeFrame(REQUEST.exec, Buffer.from([TAG.arg, 1])),
      encodeFrame(REQUEST.exec, item(TAG.arg, Buffer.from("no terminator"))),
      encodeFrame(REQUEST.exec, item(TAG.arg, Buffer.from("inner\0nul\0"))),
      encodeFrame(REQUEST.exec, item(TAG.windowSize, Buffer.alloc(3))),
      encodeFrame(REQUEST.exec, Buffer.alloc(1024 * 1024, 1)),
      encodeFrame(REQUEST.exec, Buffer.concat(Array.from({ length: 9000 }, () => item(TAG.arg, Buffer.from("a\0"))))),
      encodeFrame(REQUEST.entropy, Buffer.alloc(5)),
      encodeFrame(REQUEST.entropy, item(TAG.bytes, Buffer.alloc(5000))),
      encodeFrame(REQUEST.setTime, item(TAG.unixMs, Buffer.alloc(8))),
      encodeFrame(REQUEST.idmapMount, item(TAG.attribute, Buffer.from("suid\0"))),
      encodeFrame(REQUEST.network, item(TAG.outerAddress, Buffer.from("10.0.0.1/33\0"))),
      encodeFrame(REQUEST.network, item(TAG.outerName, Buffer.from("name-longer-than-15\0"))),
      encodeFrame(REQUEST.freeze, item(TAG.path, Buffer.alloc(0))),
    ];
    for (const bytes of hostile) {
      const answer = await raw(helper.socketPath, bytes);
      assert.equal(answer[4], 65, `ERROR for ${bytes.subarray(0, 16).toString("hex")}`);
    }
    assert.equal((await collect(helper.client, rootCommand("true"))).code, 0);
  });

  test("hostile frames inside a session end it", async () => {
    for (const frame of [
      encodeFrame(99),
      encodeFrame(32, Buffer.alloc(70_000)),
      encodeFrame(34, Buffer.alloc(1)),
      encodeFrame(35, Buffer.from([0])),
    ]) {
      const start = new ItemWriter().text(TAG.arg, "sleep").text(TAG.arg, "60").text(TAG.cwd, "/").u32(TAG.uid, 0).u32(TAG.gid, 0);
      const answer = await raw(helper.socketPath, Buffer.concat([encodeFrame(REQUEST.exec, start.finish()), frame]));
      const pid = answer.readUInt32LE(5);
      await waitFor(() => !alive(pid), "end of the process");
    }
  });
});

function alive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

function hasChild(pid: number, name: string): boolean {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  return children.some((child) => commandName(child) === name);
}

/** Empty for a process that has ended meanwhile. */
function commandName(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return "";
  }
}

/** Sends bytes and reads until the helper closes. */
async function raw(path: string, bytes: Buffer): Promise<Buffer> {
  const socket = connect(path);
  const answer: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => answer.push(chunk));
  // The helper may close before it has read everything.
  socket.on("error", () => {});
  socket.write(bytes);
  await once(socket, "close");
  return Buffer.concat(answer);
}
