import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { TEST_TOKEN } from "../../client/test/support/test-daemon.ts";
import { Cli } from "../src/cli.ts";
import { complete } from "../src/completion/candidates.ts";
import { DaemonNames } from "../src/completion/names.ts";
import { COMPLETION_SCRIPTS } from "../src/completion/scripts.ts";
import { buildProgram } from "../src/program.ts";
import { HOB, startHob } from "./support/run-hob.ts";
import { TestTerminal } from "./support/terminal.ts";

const { daemon, home } = await startHob("web-one", "web-two", "other");

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

/** What the sprite web-one holds: with two names that no shell should get. */
function fill(): void {
  const set = (route: string, answer: unknown) => daemon.sessionAnswers.set(`GET ${route}`, { status: 200, body: JSON.stringify(answer) });
  const session = { tty: true, is_active: true, created: "", last_activity: "", bytes_per_second: 0, workdir: "/" };
  const checkpoint = { create_time: "2030-01-01T00:00:00Z", is_auto: false, history: [], source_id: "", health: "" };
  set("/exec", {
    count: 2,
    sessions: [
      { ...session, id: "7", command: "bash -l" },
      { ...session, id: "12", command: "make\tall\n:files\x1b]0;" },
    ],
  });
  set("/checkpoints", [
    { ...checkpoint, id: "Current", comment: "" },
    { ...checkpoint, id: "v2", comment: "before the upgrade" },
    { ...checkpoint, id: "v1", comment: "" },
    { ...checkpoint, id: "$(touch /tmp/x)", comment: "" },
  ]);
  set("/services", [
    { name: "api", state: { status: "running" } },
    { name: "db", state: { status: "stopped" } },
  ]);
  const entries = [
    { name: "src", isDir: true },
    { name: "notes.txt", isDir: false },
    { name: "`reboot`", isDir: false },
  ];
  set("/fs/list", { entries });
  set("/checkpoints/v1/files", { entries });
}

test("what is in a sprite that runs: sessions, checkpoints, services, files", async () => {
  fill();
  const cases: [line: string, wanted: string[]][] = [
    ["attach web-one ", ["7", "12"]],
    ["attach -s web-one 1", ["12"]],
    ["sessions attach web-one ", ["7", "12"]],
    ["sessions kill web-one 7 ", ["12"]],
    ["sessions kill web-one 7 --signal SIGT", ["SIGTERM"]],
    ["sessions kill web-one 7 --signal=K", ["--signal=KILL"]],
    ["restore web-one ", ["v2", "v1"]],
    ["checkpoint restore --sprite web-one ", ["v2", "v1"]],
    ["checkpoint info --sprite=web-one ", ["v2", "v1"]],
    ["checkpoint delete web-one v2 ", []],
    ["checkpoint diff web-one v1 ", ["current", "v2", "v1"]],
    ["checkpoint list web-one --history ", ["v2", "v1"]],
    ["checkpoint create web-o", ["web-one"]],
    ["checkpoint cat web-", ["web-one@", "web-two@"]],
    ["checkpoint cat web-one@v1", ["web-one@v1:/"]],
    ["checkpoint files web-one@v1:/", ["web-one@v1:/src/", "web-one@v1:/notes.txt"]],
    ["checkpoint ls web-one@v", ["web-one@v2:/", "web-one@v1:/"]],
    ["fork web-one@", ["web-one@v2", "web-one@v1"]],
    ["fork web-o", ["web-one"]],
    ["logs web-one ", ["api", "db"]],
    ["services signal web-one api H", ["HUP"]],
    ["services stop -s web-one a", ["api"]],
    ["services create web-one --needs db,", ["db,api"]],
    ["services create web-", ["web-one", "web-two"]],
    ["services create web-one ", []],
    ["cp web-one:sr", ["web-one:src/"]],
    ["cp . web-one:src/", ["web-one:src/src/", "web-one:src/notes.txt"]],
    ["policy privileges set web-one --profile ", ["minimal", "standard", "privileged"]],
    ["policy privileges set web-one --device /dev/f", ["/dev/fuse"]],
    ["exec --sprite=oth", ["--sprite=other"]],
    ["exec web-one ", []],
    ["destroy other ", ["web-one", "web-two"]],
  ];
  const cli = new Cli(process);
  const program = await buildProgram(cli, undefined);
  const names = new DaemonNames(cli, { url: daemon.url, token: TEST_TOKEN });
  for (const [line, wanted] of cases) {
    const { candidates: found, files } = await complete(program, line.split(" "), names);
    assert.deepEqual([found.map(({ value }) => value), files], [wanted, false], line);
  }
  assert.deepEqual(await candidates(["import", ""]), [":files"]);
  const { stdout } = await home.run(["__complete", "--", "attach", "web-one", "1"]);
  assert.equal(stdout.toString(), "12\tmake all :files ]0;\n:nofiles\n");
});

test("in a folder with a sprite of its own, its things beside the sprites", async () => {
  fill();
  const folder = join(home.path, "folder");
  mkdirSync(folder);
  writeFileSync(join(folder, ".hob"), JSON.stringify({ sprite: "web-one" }));
  const at = async (...words: string[]) => (await home.run(["__complete", "--", ...words], { cwd: folder })).stdout.toString();
  assert.match(await at("attach", ""), /^other\tsprite\nweb-one\t.*\nweb-two\t.*\n7\tbash -l\n12\t/);
  assert.match(await at("restore", "v"), /^v2\tbefore the upgrade\nv1\tcheckpoint, 2030/);
  assert.match(await at("checkpoint", "list", "--history", "v1"), /^v1\t/);
  assert.match(await at("services", "start", "a"), /^api\tservice, running\n/);
});

test("a sprite that sleeps is not woken, and an answer that is none is nothing", async () => {
  fill();
  const sprite = daemon.sprites.get("web-one") ?? assert.fail();
  sprite.status = "warm";
  daemon.requests.length = 0;
  assert.deepEqual(await candidates(["attach", "web-one", ""]), [":nofiles"]);
  assert.ok(daemon.requests.every(({ url }) => url.pathname === "/v1/sprites"));
  sprite.status = "running";
  daemon.sessionAnswers.set("GET /exec", { status: 200, body: "[]" });
  assert.deepEqual(await candidates(["attach", "web-one", ""]), [":nofiles"]);
  assert.deepEqual(await candidates(["attach", "nosuch", ""]), [":nofiles"]);
  daemon.sessionAnswers.clear();
});

test("tokens of the home, those that are worth something", async () => {
  const id = JSON.parse((await home.run(["token", "create", "laptop", "--json"])).stdout.toString()).id as string;
  assert.deepEqual(await candidates(["token", "revoke", ""]), [id, ":nofiles"]);
  await home.run(["token", "revoke", id]);
  assert.deepEqual(await candidates(["token", "revoke", ""]), [":nofiles"]);
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
        ["hob fork web-one@v2", "hob fork web-one@v2"],
        ["hob checkpoint cat web-one@v1:/no", "hob checkpoint cat web-one@v1:/notes.txt"],
        ["hob info --sprite=oth", "hob info --sprite=other"],
        ["hob cp web-one:sr", "hob cp web-one:src/?"],
        ["hob cp web-one:no", "hob cp web-one:notes.txt"],
        ["X=1 hob restore web-one v1", "X=1 hob restore web-one v1"],
      ];
      fill();
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
