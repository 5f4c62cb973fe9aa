import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HOB, startHob } from "./support/run-hob.ts";
import { TestTerminal } from "./support/terminal.ts";

const { daemon, home } = await startHob("web");

/** Runs hob in a shell of the terminal, which then tells its exit status and how it finds the terminal. */
const inShell = (command: string, env: Record<string, string> = {}): TestTerminal =>
  new TestTerminal(["sh", "-c", `${command}; echo "status=$?="; stty -a; echo end=`], { ...home.env, ...env });

/** Waits for the shell's report and checks that the terminal is usable. @returns the exit status of hob */
async function report(terminal: TestTerminal): Promise<number> {
  const [settings, status] = await terminal.waitFor(/status=(\d+)=[\s\S]*end=/);
  for (const setting of ["icanon", "echo", "isig", "opost", "icrnl"]) assert.match(settings, new RegExp(`[ ;\\n]${setting}\\b`));
  await terminal.exited;
  return Number(status);
}

describe("hob console", () => {
  test("a shell on a real terminal: keys, size, resize, variables, exit status; the terminal is as before", async () => {
    using terminal = inShell(`${HOB} console web`, { COLORTERM: "truecolor", LANG: "C.UTF-8" });
    terminal.type("echo 1-$TERM-$COLORTERM-$LANG; stty size; tty\r");
    await terminal.waitFor(/1-xterm-256color-truecolor-C\.UTF-8\r\n30 90\r\n\/dev\/pts/);
    terminal.resize(101, 41);
    await sleep(300);
    terminal.type("stty size\r");
    await terminal.waitFor(/41 101\r\n/);
    assert.ok(daemon.clientFrames.includes(JSON.stringify({ type: "resize", cols: 101, rows: 41 })));
    // Ctrl+C is a key: it ends the command inside, not hob.
    const from = terminal.output.length;
    terminal.type("sleep 30\r");
    await terminal.waitFor(/sleep 30\r\n/, from);
    await sleep(200);
    terminal.type("\x03");
    terminal.type("echo still-$((1 + 1))\r");
    await terminal.waitFor(/still-2\r\n/);
    terminal.type("exit 7\r");
    assert.equal(await report(terminal), 7);
  });

  test("a broken connection is an error; the terminal and the screen are put in order", async () => {
    using terminal = inShell(`${HOB} exec -t web -- test:drop`);
    assert.equal(await report(terminal), 1);
    // The line ends show that the terminal was in order when the message was written.
    assert.match(terminal.output, /hob:.* exec: the connection ended before the command did .*\r\n.*hint:.*\r\n/);
    assert.ok(terminal.output.includes("\x1b[?1049l"));
  });

  test("SIGTERM and SIGHUP hang up the shell, restore the terminal and are told in the exit status", async () => {
    for (const [signal, status] of [
      ["TERM", 143],
      ["HUP", 129],
    ] as const) {
      // The inner shell tells the pid of hob: it is the parent that the outer one started.
      using terminal = inShell(`sh -c 'echo $$ > ${home.path}/pid; exec ${HOB} console web'`);
      terminal.type("echo up-$((2 + 2))\r");
      await terminal.waitFor(/up-4\r\n/);
      const start = performance.now();
      execFileSync("sh", ["-c", `kill -${signal} $(cat ${home.path}/pid)`]);
      assert.equal(await report(terminal), status);
      assert.ok(performance.now() - start < 5_000);
      assert.ok(daemon.clientFrames.includes(JSON.stringify({ type: "signal", signal: "SIGHUP" })));
    }
  });

  test("a crash restores the terminal", async () => {
    using terminal = inShell(`${process.execPath} ${join(import.meta.dirname, "support/crash-in-raw-mode.ts")} 2>/dev/null`);
    await terminal.waitFor(/raw\n/);
    assert.equal(await report(terminal), 1);
  });

  test("without a terminal it refuses and says what to use", async () => {
    const { status, stderr } = await home.run(["console", "web"]);
    assert.equal(status, 1);
    assert.match(stderr, /not a terminal\nhint: for scripts there is 'hob exec web -- COMMAND'/);
  });
});

describe("hob exec", () => {
  test("-t gives a terminal of this terminal's size, and its exit status", async () => {
    using terminal = inShell(`${HOB} exec -t web -- sh -c 'stty size; test -t 0 && exit 9'`);
    assert.equal(await report(terminal), 9);
    assert.match(terminal.output, /30 90\r\n/);
  });

  test("-t works from a pipe as well", async () => {
    const { status, stdout } = await home.run(["exec", "-t", "web", "--", "sh", "-c", "stty size; cat; exit 3"], {
      input: "piped\n",
    });
    assert.equal(status, 3);
    assert.match(stdout.toString(), /24 80\r\n(piped\r\n)+$/);
  });

  test("without -t the terminal stays as it is: Ctrl+C interrupts the command", async () => {
    using terminal = inShell(`${HOB} exec web -- sh -c 'test -t 0 || echo plain; exec sleep 30'`);
    await terminal.waitFor(/plain/);
    terminal.type("\x03");
    await terminal.exited;
    assert.ok(daemon.clientFrames.includes(JSON.stringify({ type: "signal", signal: "SIGINT" })));
  });

  test("under an older Node.js a key's signal arrives once", async () => {
    daemon.clientFrames.length = 0;
    using terminal = inShell(`trap : INT; node ${HOB} exec web -- sh -c 'trap "echo got" INT; echo plain; sleep 1; sleep 1; exit 4'`);
    await terminal.waitFor(/plain/);
    terminal.type("\x03");
    assert.equal(await report(terminal), 4);
    assert.equal(daemon.clientFrames.filter((frame) => frame.includes("SIGINT")).length, 1);
  });
});

test("destroy asks, and only yes is yes", async () => {
  daemon.add("old");
  for (const [answer, status, remains] of [
    ["n\r", 1, true],
    ["\x04", 1, true],
    ["yes\r", 0, false],
  ] as const) {
    using terminal = inShell(`${HOB} destroy old`);
    await terminal.waitFor(/Destroy .*old.* and all that it holds\? \[y\/N\]/);
    terminal.type(answer);
    assert.equal(await report(terminal), status, terminal.output);
    assert.equal(daemon.sprites.has("old"), remains);
  }
});

test("create shows a spinner on a terminal, and colours unless NO_COLOR is set", async () => {
  // Where CI is set nobody watches, and there is no spinner.
  using coloured = inShell(`env -u CI ${HOB} create spin`);
  assert.equal(await report(coloured), 0);
  assert.ok(coloured.output.includes("\x1b[32mCreated\x1b[39m"));
  assert.ok(coloured.output.includes("\x1b[?25h"));
  using plain = inShell(`${HOB} create plain`, { NO_COLOR: "1" });
  assert.equal(await report(plain), 0);
  assert.match(plain.output, /Created plain in/);
});
