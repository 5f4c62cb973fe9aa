import assert from "node:assert/strict";
import { test } from "node:test";
import { TestTerminal } from "../../packages/cli/test/support/terminal.ts";
import { shell } from "./support/exec.ts";
import { HOB } from "./support/hob.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 60_000 };

/** "sprite@sprite:~$ ", with the colours between its parts. */
const PROMPT = /sprite@sprite[^$]*:[^$]*~[^$]*\$ /;

const suite = useDaemon({ sprites: ["box"] });

/** Runs hob in a shell of a real terminal, which then tells the exit status and how it finds the terminal. */
const inShell = (command: string): TestTerminal =>
  new TestTerminal(["sh", "-c", `${command}; echo "status=$?="; stty -a; echo end=`], suite.daemon.env);

/** Waits for the shell's report and checks that the terminal is as usable as before. @returns the exit status of hob */
async function report(terminal: TestTerminal): Promise<number> {
  const [settings, status] = await terminal.waitFor(/status=(\d+)=[\s\S]*end=/);
  for (const setting of ["icanon", "echo", "isig", "opost", "icrnl"]) assert.match(settings, new RegExp(`[ ;\\n]${setting}\\b`));
  await terminal.exited;
  return Number(status);
}

test("a prompt, what is typed, the size, the exit status; the terminal is as before", LIMIT, async () => {
  using terminal = inShell(`${HOB} console box`);
  await terminal.waitFor(PROMPT);
  terminal.type("echo sum-$((20 + 3)); stty size; tty\r");
  await terminal.waitFor(/echo sum-\$\(\(20 \+ 3\)\)[\s\S]*sum-23\r\n30 90\r\n\/dev\/pts\/\d+\r\n/);
  terminal.resize(101, 41);
  await until("the size arrives", async () => {
    const from = terminal.output.length;
    terminal.type("stty size\r");
    return (await terminal.waitFor(/(\d+ \d+)\r\n/, from))[1] === "41 101";
  });
  terminal.type("exit 7\r");
  assert.equal(await report(terminal), 7);
});

test("Ctrl+C ends the command inside, not hob; Ctrl+D ends the shell", LIMIT, async () => {
  using terminal = inShell(`${HOB} console box`);
  await terminal.waitFor(PROMPT);
  terminal.type("sleep 1000\r");
  await until("it runs", async () => (await shell(suite.sprite("box"), "pgrep -x sleep")).code === 0);
  const from = terminal.output.length;
  terminal.type("\x03");
  await terminal.waitFor(/\$ /, from);
  terminal.type("echo still-$((1 + 1))\r");
  await terminal.waitFor(/still-2\r\n/);
  terminal.type("\x04");
  assert.equal(await report(terminal), 0);
});

test("a full-screen program draws and leaves", LIMIT, async () => {
  using terminal = inShell(`${HOB} exec -t box -- vim -u NONE -i NONE`);
  await terminal.waitFor(/VIM - Vi IMproved/);
  terminal.type(":q\r");
  assert.equal(await report(terminal), 0);
});

test("a bounce under a console ends it, says why and restores the terminal", LIMIT, async () => {
  using terminal = inShell(`${HOB} console box`);
  await terminal.waitFor(PROMPT);
  assert.equal((await suite.daemon.hob("bounce", "box")).code, 0);
  assert.equal(await report(terminal), 137);
  assert.match(terminal.output, /the sprite's container has stopped/);
});

test("when the terminal goes away, so does the shell inside", LIMIT, async () => {
  const terminal = inShell(`${HOB} exec -t box -- sh -c 'echo here; exec sleep 2000'`);
  await terminal.waitFor(/here/);
  const running = async () => (await shell(suite.sprite("box"), "pgrep -f '^sleep 2000'")).code === 0;
  assert.ok(await running());
  terminal[Symbol.dispose]();
  await until("it has ended", async () => !(await running()));
});
