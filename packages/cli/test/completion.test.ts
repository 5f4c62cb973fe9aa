import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import { TestDaemon } from "../../client/test/support/test-daemon.ts";
import { COMPLETION_SCRIPTS } from "../src/completion/scripts.ts";
import { HOB, TestHome } from "./support/run-hob.ts";
import { TestTerminal } from "./support/terminal.ts";

let daemon: TestDaemon;
let home: TestHome;

before(async () => {
  daemon = await TestDaemon.start();
  for (const name of ["web-one", "web-two", "other"]) daemon.add(name);
  home = new TestHome().connect(daemon);
});
after(async () => {
  home[Symbol.dispose]();
  await daemon.close();
});

async function candidates(words: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const { stdout, status, stderr } = await home.run(["__complete", "--", ...words], { env });
  assert.deepEqual([status, stderr], [0, ""]);
  return stdout
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t")[0] as string);
}

test("what fits at the cursor", async () => {
  const cases: [string[], string[]][] = [
    [["cre"], ["create", ":nofiles"]],
    [["d"], ["destroy", "doctor", ":nofiles"]],
    [
      ["info", ""],
      ["other", "web-one", "web-two", ":nofiles"],
    ],
    [
      ["c", "web-t"],
      ["web-two", ":nofiles"],
    ],
    [
      ["destroy", "other", "web-o"],
      ["web-one", ":nofiles"],
    ],
    [
      ["exec", "-s", "o"],
      ["other", ":nofiles"],
    ],
    [["exec", "-s", "other", ""], [":nofiles"]],
    [["exec", "other", "--", ""], [":nofiles"]],
    [["create", ""], [":nofiles"]],
    [
      ["create", "--c"],
      ["--cpus", ":nofiles"],
    ],
    [["create", "--cpus", ""], [":nofiles"]],
    [
      ["sessions", ""],
      ["list", "attach", "kill", "help", ":nofiles"],
    ],
    [
      ["s", "kill", "web-t"],
      ["web-two", ":nofiles"],
    ],
    [
      ["attach", "--off"],
      ["--offset", ":nofiles"],
    ],
    [
      ["token", ""],
      ["create", "list", "revoke", "help", ":nofiles"],
    ],
    [
      ["token", "create", "--j"],
      ["--json", ":nofiles"],
    ],
    [
      ["completion", ""],
      ["bash", "zsh", "fish", ":nofiles"],
    ],
    [["--home", ""], [":files"]],
    [
      ["--url", "x", "li"],
      ["list", ":nofiles"],
    ],
  ];
  for (const [words, wanted] of cases) assert.deepEqual(await candidates(words), wanted, words.join(" "));
});

test("every command and none of the hidden ones", async () => {
  const all = await candidates([""]);
  assert.ok(all.includes("serve") && all.includes("console") && all.includes("help"));
  assert.ok(!all.includes("__complete"));
});

test("without a daemon there are no names, and nothing is said", async () => {
  assert.deepEqual(await candidates(["info", ""], { HOB_URL: "http://127.0.0.1:1", HOB_TOKEN: "t" }), [":nofiles"]);
  daemon.faults.silent = true;
  const start = performance.now();
  assert.deepEqual(await candidates(["info", ""]), [":nofiles"]);
  assert.ok(performance.now() - start < 4_000);
  daemon.faults = {};
});

describe("in a real bash", () => {
  /** An interactive bash with the completion loaded. */
  async function bash(): Promise<TestTerminal> {
    const env = { ...home.env, PATH: `${dirname(HOB)}:${home.env.PATH}`, PS1: "ready> ", INPUTRC: "/dev/null" };
    const terminal = new TestTerminal(["bash", "--norc", "--noprofile", "-i"], env, { cols: 200, rows: 50 });
    terminal.type("bind 'set enable-bracketed-paste off'; PS1='ready> '; source <(hob completion bash); echo load''ed\r");
    try {
      await terminal.waitFor(/[\r\n]loaded\r\n.*ready> /);
      return terminal;
    } catch (thrown) {
      terminal[Symbol.dispose]();
      throw thrown;
    }
  }

  test("commands, flags and sprites are completed", async () => {
    using terminal = await bash();
    const cases: [typed: string, shown: RegExp][] = [
      ["hob conso\t", /hob console /],
      ["hob info oth\t", /hob info other /],
      ["hob create --sto\t", /hob create --storage-gb /],
      ["hob exec -s oth\t", /hob exec -s other /],
    ];
    for (const [typed, shown] of cases) {
      const from = terminal.output.length;
      terminal.type(typed);
      await terminal.waitFor(shown, from);
      terminal.type("\x15");
    }
    const from = terminal.output.length;
    terminal.type("hob console web-\t\t");
    await terminal.waitFor(/web-one +web-two/, from);
  });

  test("file names are offered where a folder is wanted", async () => {
    using terminal = await bash();
    terminal.type("hob --home /et\t");
    await terminal.waitFor(/hob --home \/etc\//);
  });
});

test("the scripts are valid in the shells that are here", () => {
  for (const [shell, script] of Object.entries(COMPLETION_SCRIPTS)) {
    try {
      execFileSync(shell, ["-n"], { input: script });
    } catch (thrown) {
      // A shell that is not installed cannot judge.
      assert.equal((thrown as NodeJS.ErrnoException).code, "ENOENT", `${shell}: ${thrown}`);
    }
  }
});
