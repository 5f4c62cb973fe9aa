import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startFilesServer } from "./support/files-server.ts";
import { collect } from "./support/helper.ts";

const HOB = new URL("../../../bin/hob", import.meta.url).pathname;
const LIMIT = { timeout: 90_000 };

describe("hob cp, and the files of hob exec", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startFilesServer);
  const local = mkdtempSync(join(tmpdir(), "hob-cp-test-"));
  after(() => rmSync(local, { recursive: true, force: true }));

  /** The CLI as a process of its own, in the folder `local`. */
  const hob = (args: string[], input = ""): Promise<{ status: number | null; stdout: string; stderr: string }> => {
    const flags = ["--url", suite.server.baseURL, "--token", suite.server.authorization.replace("Bearer ", "")];
    const child = spawn(HOB, [...flags, ...args], { cwd: local, env: { ...process.env, HOB_HOME: local, NO_COLOR: "1" } });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    child.stdin.end(input);
    return new Promise((resolve) => child.once("close", (status) => resolve({ status, stdout, stderr })));
  };
  const ok = async (args: string[], input = "") => {
    const { status, stdout, stderr } = await hob(args, input);
    assert.equal(status, 0, stderr);
    return stdout;
  };
  const fails = async (args: string[], message: RegExp, status = 1) => {
    const ended = await hob(args);
    assert.deepEqual([ended.status, ended.stdout], [status, ""], ended.stderr);
    assert.match(ended.stderr, message);
    assert.doesNotMatch(ended.stderr, /^\s+at /m);
  };
  const run = async (script: string) => {
    const spec = {
      argv: ["bash", "-c", script],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/home/sprite",
      uid: 1000,
      gid: 1000,
      user: "sprite",
    };
    const { code, stdout, stderr } = await collect(suite.helper.client, { ...spec, target: suite.container.target });
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const at = (name: string) => join(local, name);

  test("one file, in and out, through pipes, and inside the sprite", LIMIT, async () => {
    writeFileSync(at("a.txt"), "content");
    chmodSync(at("a.txt"), 0o750);
    assert.match(await ok(["cp", "a.txt", "box:"]), /^Copied 1 file, 0\.0 KiB in /);
    assert.equal(await run("cat a.txt; stat -c ' %a' a.txt"), "content 750");
    await ok(["cp", "box:a.txt", "b.txt"]);
    assert.deepEqual([readFileSync(at("b.txt"), "utf8"), lstatSync(at("b.txt")).mode & 0o777], ["content", 0o750]);
    await ok(["cp", "-", "box:piped"], "from a pipe");
    assert.equal(await ok(["cp", "box:piped", "-"]), "from a pipe");
    assert.equal(JSON.parse(await ok(["cp", "--json", "box:piped", "box:copy"])).files, 1);
    await run("mkdir folder");
    await ok(["cp", "a.txt", "box:folder"]);
    await ok(["cp", "box:a.txt", "box:folder/second"]);
    assert.equal(await run("ls folder; cat copy"), "a.txt\nsecond\nfrom a pipe");
    mkdirSync(at("here"));
    await ok(["cp", "box:a.txt", "here"]);
    assert.deepEqual(readdirSync(at("here")), ["a.txt"]);
  });

  test("folders with all that is in them, both ways", LIMIT, async () => {
    mkdirSync(at("tree/sub"), { recursive: true });
    mkdirSync(at("tree/empty"), { mode: 0o700 });
    writeFileSync(at("tree/sub/program"), "#!/bin/sh\n", { mode: 0o755 });
    writeFileSync(at("tree/a:b"), "colon");
    symlinkSync("sub/program", at("tree/link"));
    assert.match(await ok(["cp", "-r", "tree", "box:copied"]), /^Copied 3 files/);
    assert.equal(
      await run("cd copied; find . | sort; readlink link; stat -c %a empty sub/program"),
      ".\n./a:b\n./empty\n./link\n./sub\n./sub/program\nsub/program\n700\n755",
    );
    await ok(["cp", "-r", "tree", "box:copied"]);
    assert.equal(await run("ls copied/tree | wc -l"), "4");
    await ok(["cp", "-r", "box:copied", "back"]);
    assert.equal(execFileSync("diff", ["-r", "tree", "back", "-x", "tree"], { cwd: local }).toString(), "");
    assert.equal(readlinkSync(at("back/link")), "sub/program");
    await ok(["cp", "-r", "./tree/a:b", "box:colon"]);
  });

  test("what cannot be copied is said, and the rest is copied", LIMIT, async () => {
    await run("mkdir mixed; cd mixed; echo 1 > one; echo 2 > two; chmod 0 one; mkfifo pipe");
    const ended = await hob(["cp", "-r", "box:mixed", "mixed"]);
    assert.equal(ended.status, 1);
    assert.match(ended.stderr, /mixed\/one: EACCES: permission denied/);
    assert.match(ended.stderr, /mixed\/pipe: a fifo; left out/);
    assert.deepEqual(readdirSync(at("mixed")), ["two"]);
  });

  test("a sprite cannot write outside of the destination", LIMIT, async () => {
    mkdirSync(at("victim"));
    mkdirSync(at("trap"));
    symlinkSync(at("victim"), at("trap/evil"));
    await run("mkdir -p evil/evil; echo x > evil/evil/file");
    const ended = await hob(["cp", "-r", "box:evil/evil", "trap"]);
    assert.notEqual(ended.status, 0, "a link of this machine is not followed");
    assert.deepEqual(readdirSync(at("victim")), []);
  });

  test("mistakes are explained", LIMIT, async () => {
    mkdirSync(at("tree"), { recursive: true });
    writeFileSync(at("a.txt"), "content");
    await run("mkdir -p copied; touch a.txt");
    await fails(["cp", "a.txt", "b.txt"], /neither path is of a sprite/, 2);
    await fails(["cp", "box:a", "cup:b"], /two sprites/, 2);
    await fails(["cp", "tree", "box:x"], /tree is a folder\nhint: -r/, 2);
    await fails(["cp", "box:copied", "x"], /copied is a folder\nhint: -r/, 2);
    await fails(["cp", "nothing", "box:x"], /nothing: no such file/);
    await fails(["cp", "box:nothing", "x"], /ENOENT: no such file or directory/);
    await fails(["cp", "a.txt", "box:/etc/x"], /EACCES: permission denied/);
    await fails(["cp", "a.txt", "box:none/x"], /ENOENT/);
    await fails(["cp", "box:a.txt", "none/x"], /^hob: ENOENT: no such file or directory, open/m);
    await fails(["exec", "--file", "a.txt", "box", "true"], /not SOURCE:DESTINATION/, 2);
    await fails(["exec", "--file", "none:x", "box", "true"], /none: no such file/, 2);
    await fails(["exec", "--file", "tree:x", "box", "true"], /not a file/, 2);
    assert.match(await ok(["cp", "--help"]), /NAME:PATH[\s\S]*Examples:/);
  });

  test("files of exec are there before it, relative to its folder", LIMIT, async () => {
    writeFileSync(at("first"), "1");
    writeFileSync(at("second"), "2");
    // Exec itself is not served here: its refusal comes after the files.
    await hob([
      "exec",
      "--file",
      "first:x/first",
      "--file",
      "second:/home/sprite/second",
      "--dir",
      "/home/sprite/folder",
      "box",
      "--",
      "true",
    ]);
    assert.equal(await run("cat folder/x/first second"), "12");
  });

  test("completion offers sprites and files", LIMIT, async () => {
    assert.match(await ok(["__complete", "--", "cp", ""]), /:files/);
    assert.match(await ok(["__complete", "--", "exec", "--file", ""]), /:files/);
  });
});
