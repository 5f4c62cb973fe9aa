import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
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
    [
      ["sleep", "oth"],
      ["other", ":nofiles"],
    ],
    [
      ["config", "set", ""],
      ["url", "token", ":nofiles"],
    ],
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

/** A shell that a person types into, and how completion is loaded there. */
interface TestedShell {
  name: "bash" | "zsh" | "fish";
  argv: readonly string[];
  /** typed first; prints "loaded" at its end, in a form that the echo of the typing does not have */
  load: string;
  /** keys that show what is possible when there are several */
  list: string;
  /** false: it shows no descriptions */
  describes?: false;
}

const TESTED_SHELLS: readonly TestedShell[] = [
  {
    name: "bash",
    argv: ["bash", "--norc", "--noprofile", "-i"],
    load: "bind 'set enable-bracketed-paste off'; PS1='ready> '; source <(hob completion bash); echo load''ed\r",
    list: "\t\t",
    describes: false,
  },
  {
    name: "zsh",
    argv: ["zsh", "-f", "-i"],
    load: "PS1='ready> '; unset zle_bracketed_paste; bindkey -e; autoload -Uz compinit; compinit -u -D; source <(hob completion zsh); echo load''ed\r",
    list: "\t",
  },
  {
    name: "fish",
    argv: ["fish", "--private", "--no-config", "-i"],
    load: "function fish_prompt; echo 'ready> '; end; function fish_greeting; end; hob completion fish | source; echo load''ed\r",
    list: "\t",
  },
];

const isInstalled = (shell: string): boolean => {
  try {
    execFileSync(shell, ["-c", "exit 0"]);
    return true;
  } catch {
    return false;
  }
};

/**
 * Types a word and the key that completes it, then makes the whole line an argument of echo: how a shell draws what it
 * has completed differs, what it has in its line does not. @returns where the output begins
 */
function completeAndShow(terminal: TestTerminal, typed: string): number {
  const from = terminal.output.length;
  terminal.type(`${typed}\t\x01echo \r`);
  return from;
}

const completedLine = (line: string): RegExp => new RegExp(`[\\r\\n]${line} *\\r?\\n`);

for (const shell of TESTED_SHELLS) {
  describe(`in a real ${shell.name}`, { skip: isInstalled(shell.name) ? false : `${shell.name} is not installed` }, () => {
    /** An interactive shell with the completion loaded. */
    async function open(): Promise<TestTerminal> {
      const env = { ...home.env, PATH: `${dirname(HOB)}:${home.env.PATH}`, HOME: home.path, INPUTRC: "/dev/null" };
      const terminal = new TestTerminal(shell.argv, env, { cols: 200, rows: 50 });
      terminal.type(shell.load);
      try {
        await terminal.waitFor(/[\r\n]loaded\r?\n[\s\S]*ready> /);
        return terminal;
      } catch (thrown) {
        terminal[Symbol.dispose]();
        throw thrown;
      }
    }

    test("commands, flags and sprites are completed", async () => {
      using terminal = await open();
      const cases: [typed: string, completed: string][] = [
        ["hob conso", "hob console"],
        ["hob info oth", "hob info other"],
        ["hob create --sto", "hob create --storage-gb"],
        ["hob exec -s oth", "hob exec -s other"],
        ["hob token revo", "hob token revoke"],
      ];
      for (const [typed, completed] of cases) await terminal.waitFor(completedLine(completed), completeAndShow(terminal, typed));
      const from = terminal.output.length;
      terminal.type(`hob console web-${shell.list}`);
      await terminal.waitFor(/web-(?:one|two)[\s\S]*web-(?:one|two)/, from);
      if (shell.describes === false) return;
      terminal.type(`\x15hob conso\x08\x08${shell.list}`);
      await terminal.waitFor(/console +[-(]+ ?Open a shell in a sprite/, from);
    });

    test("file names are offered where a folder is wanted", async () => {
      using terminal = await open();
      await terminal.waitFor(completedLine("hob --home /etc/?"), completeAndShow(terminal, "hob --home /et"));
    });
  });
}

test("the scripts are valid in the shells that are here", () => {
  for (const [shell, script] of Object.entries(COMPLETION_SCRIPTS)) {
    try {
      // From a file: not every shell reads what it shall check from standard input.
      const path = join(home.path, `completion.${shell}`);
      writeFileSync(path, script);
      execFileSync(shell, ["-n", path]);
    } catch (thrown) {
      // A shell that is not installed cannot judge.
      assert.equal((thrown as NodeJS.ErrnoException).code, "ENOENT", `${shell}: ${thrown}`);
    }
  }
});
