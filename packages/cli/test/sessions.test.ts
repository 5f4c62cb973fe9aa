import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, test } from "node:test";
import { promisify } from "node:util";
import { BROKEN_OUTPUT } from "../../client/test/support/broken-sessions.ts";
import { errorBody } from "../../client/test/support/test-daemon.ts";
import { HOB, startHob } from "./support/run-hob.ts";
import { TestTerminal } from "./support/terminal.ts";

const { daemon, home } = await startHob("web");
afterEach(() => daemon.sessionAnswers.clear());

const item = {
  id: "7",
  created: new Date(Date.now() - 120_000).toISOString(),
  command: "bash -l\x1b]0;evil\x07",
  workdir: "/home/sprite",
  tty: true,
  bytes_per_second: 2048,
  is_active: true,
  last_activity: new Date().toISOString(),
};
const answer = (route: string, status: number, body: string) => daemon.sessionAnswers.set(route, { status, body });
const listing = (...sessions: object[]) => answer("GET /exec", 200, JSON.stringify({ count: sessions.length, sessions }));

describe("hob sessions", () => {
  test("list: a table without the control characters of a command, JSON, and nothing", async () => {
    listing(item, { ...item, id: "8", command: "x".repeat(100), tty: false, is_active: false });
    const { stdout, status } = await home.run(["s", "ls", "web"]);
    assert.equal(status, 0);
    const lines = stdout.toString().trimEnd().split("\n");
    assert.match(lines[0] ?? "", /^ID +CLIENT +TTY +AGE +LAST +OUTPUT +COMMAND$/);
    assert.match(lines[1] ?? "", /^7 +attached +yes +2m +\ds +2\.0 KiB\/s +bash -l ]0;evil $/);
    assert.match(lines[2] ?? "", /^8 +- +no .*x…$/);
    assert.deepEqual(JSON.parse((await home.run(["sessions", "list", "-s", "web", "--json"])).stdout.toString())[0], item);
    listing();
    assert.deepEqual(await home.run(["sessions", "list", "web"]).then(({ stdout, stderr }) => [stdout.toString(), stderr]), [
      "",
      "No session runs in web.\n",
    ]);
  });

  test("kill: each session, its end, and what failed", async () => {
    answer("POST /exec/7/kill", 200, '{"type":"signal"}\n{"type":"exited"}\n{"type":"complete","exit_code":143}\n');
    answer("POST /exec/8/kill", 410, errorBody("gone", "session 8 has already ended"));
    answer("POST /exec/9/kill", 200, '{"type":"signal"}\n{"type":"complete"}\n');
    const both = await home.run(["sessions", "kill", "web", "8", "7"]);
    assert.deepEqual([both.status, both.stdout.toString()], [1, "Session 7 has ended with status 143\n"]);
    assert.match(both.stderr, /^hob: session 8 has already ended/m);
    const one = await home.run(["sessions", "kill", "-s", "web", "9", "--signal", "USR1", "--timeout", "0"]);
    assert.deepEqual([one.status, one.stdout.toString()], [0, "Session 9 has the signal\n"]);
    assert.equal(daemon.requests.at(-1)?.url.search, "?signal=USR1&timeout=0s");
    const json = await home.run(["sessions", "kill", "web", "7", "--json"]);
    assert.equal(JSON.parse(json.stdout.toString())["7"].at(-1).exit_code, 143);
    for (const args of [["web"], [], ["web", "7", "--timeout", "soon"]]) {
      assert.equal((await home.run(["sessions", "kill", ...args])).status, 2, args.join(" "));
    }
  });

  test("in a folder with a sprite of its own, the id is enough", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hob-folder-"));
    writeFileSync(join(folder, ".hob"), JSON.stringify({ sprite: "web" }));
    answer("POST /exec/7/kill", 200, '{"type":"complete","exit_code":143}\n');
    const { stdout } = await promisify(execFile)(HOB, ["sessions", "kill", "7"], { cwd: folder, env: home.env });
    assert.equal(stdout, "Session 7 has ended with status 143\n");
    await assert.rejects(promisify(execFile)(HOB, ["attach", "9"], { cwd: folder, env: home.env }), /session not found: 9/);
    rmSync(folder, { recursive: true });
  });

  test("without a subcommand: help", async () => {
    const { status, stderr } = await home.run(["sessions"]);
    assert.equal(status, 2);
    assert.match(stderr, /attach.*\n.*kill/s);
  });
});

describe("hob exec", () => {
  test("comes back by itself when the connection breaks, without a word; nothing is lost", async () => {
    const { status, stdout, stderr } = await home.run(["exec", "web", "--no-stdin", "--", "broken:output"]);
    assert.equal(status, 6);
    assert.equal(stdout.length + Buffer.byteLength(stderr, "latin1"), stdout.length + Buffer.byteLength(stderr, "latin1"));
    assert.ok(stdout.length > BROKEN_OUTPUT.length / 2 - 1_000);
    assert.doesNotMatch(stderr, /hob:/);
    assert.equal(
      daemon.requests.findLast(({ url }) => url.pathname.endsWith("/exec"))?.url.searchParams.get("max_run_after_disconnect"),
      "60s",
    );
  });

  test("--detach prints the id and leaves the command without a limit", async () => {
    const { status, stdout, stderr } = await home.run(["exec", "--detach", "web", "--", "sleep", "1"]);
    assert.deepEqual([status, stdout.toString(), stderr], [0, "1\n", "'hob attach web 1' shows what it does\n"]);
    const { searchParams } = daemon.requests.at(-1)?.url ?? assert.fail();
    assert.deepEqual([searchParams.get("max_run_after_disconnect"), searchParams.get("stdin")], ["0", "false"]);
  });
});

describe("hob attach", () => {
  test("the only session, or the one that is named; from an offset", async () => {
    await home.run(["exec", "web", "--", "broken:once-more"]);
    const id = [...daemon.broken.input.keys()].at(-1) ?? "";
    const named = await home.run(["attach", "web", id, "--offset", "49000"]);
    assert.deepEqual([named.status, named.stdout.length], [6, 500]);
    listing({ ...item, id });
    assert.equal((await home.run(["attach", "web"])).stdout.length, 25_000);
    assert.equal((await home.run(["sessions", "attach", "-s", "web", id])).stdout.length, 25_000);
    daemon.broken.dropped = 49_500;
    const short = await home.run(["attach", "web", id, "--offset", "49000"]);
    daemon.broken.dropped = 0;
    assert.match(short.stderr, /^hob: 500 bytes of output are kept no more\n/);
  });

  test("none, several, or an unknown one", async () => {
    listing();
    const none = await home.run(["attach", "web"]);
    assert.deepEqual(
      [none.status, none.stderr],
      [2, "hob: attach to web: no session runs\nhint: 'hob exec --detach web -- COMMAND' starts one\n"],
    );
    listing(item, { ...item, id: "8" });
    assert.match((await home.run(["attach", "web"])).stderr, /2 sessions run \(7, 8\)/);
    const unknown = await home.run(["attach", "web", "9"]);
    assert.deepEqual([unknown.status, unknown.stderr], [1, "hob: session not found: 9\n"]);
  });
});

test("Ctrl+\\ leaves a terminal session, tells how to come back, and puts the terminal in order", async () => {
  using terminal = new TestTerminal(["sh", "-c", `${HOB} console web; echo "status=$?="; stty -a; echo end=`], home.env);
  terminal.type("echo up-$((2 + 2))\r");
  await terminal.waitFor(/up-4\r\n/);
  terminal.type("\x1c");
  const [settings, status] = await terminal.waitFor(/status=(\d+)=[\s\S]*end=/);
  assert.equal(status, "0");
  assert.match(settings, /[ ;\n]icanon\b/);
  assert.match(terminal.output, /Detached from session 1; 'hob attach web 1' comes back to it\r\n/);
  await terminal.exited;
});
