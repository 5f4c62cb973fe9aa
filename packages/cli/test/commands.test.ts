import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import { errorBody, TestDaemon } from "../../client/test/support/test-daemon.ts";
import { COMMAND_NAMES } from "../src/program.ts";
import { ended, HOB, startHob, TestHome } from "./support/run-hob.ts";

const { daemon, home } = await startHob();
beforeEach(() => {
  daemon.sprites.clear();
  daemon.requests.length = 0;
  daemon.faults = {};
});

const lines = (buffer: Buffer): string[] => buffer.toString().trimEnd().split("\n");

describe("sprites", () => {
  test("create says how long it took and where the sprite is; progress goes to standard error", async () => {
    const made = await home.run([
      "create",
      "web",
      "--cpus",
      "3",
      "--ram-mb",
      "2048",
      "--storage-gb",
      "5",
      "--label",
      "a",
      "--label",
      "b",
      "--env",
      "K=v=w",
      "--env",
      "L=",
    ]);
    assert.equal(made.status, 0, made.stderr);
    assert.match(made.stdout.toString(), /^Created web in \d+(\.\d)? m?s\nhttp:\/\/web\.localhost\n$/);
    assert.equal(made.stderr, "Creating web ...\n");
    assert.deepEqual(JSON.parse(daemon.requests[0]?.body ?? ""), {
      name: "web",
      config: { cpus: 3, ram_mb: 2048, storage_gb: 5 },
      environment: { K: "v=w", L: "" },
      labels: ["a", "b"],
    });
    assert.equal(daemon.requests[0]?.authorization, "Bearer hob/test/secret");
  });

  test("every --json is one JSON document", async () => {
    for (const args of [
      ["create", "web", "--json"],
      ["list", "--json"],
      ["info", "web", "--json"],
      ["bounce", "web", "--json"],
      ["version", "--json"],
      ["image", "list", "--json"],
    ]) {
      const { status, stdout, stderr } = await home.run(args);
      assert.equal(status, 0, stderr);
      JSON.parse(stdout.toString());
    }
  });

  test("list shows all pages in columns, by prefix if asked", async () => {
    for (const name of ["a-very-long-name-indeed", "web-1", "web-2"]) daemon.add(name);
    const all = lines((await home.run(["ls"])).stdout);
    assert.equal(all.length, 4);
    assert.match(all[0] ?? "", /^NAME +STATUS +AGE +URL$/);
    assert.match(all[2] ?? "", /^web-1 {20}running {2}\d+s {3}http:\/\/web-1\.localhost$/);
    assert.deepEqual(
      (JSON.parse((await home.run(["list", "--prefix", "web-", "--json"])).stdout.toString()) as { name: string }[]).map((one) => one.name),
      ["web-1", "web-2"],
    );
  });

  test("an empty list is said to the person, and is [] for programs", async () => {
    const plain = await home.run(["list"]);
    assert.deepEqual([plain.status, plain.stdout.toString()], [0, ""]);
    assert.match(plain.stderr, /hob create/);
    assert.equal((await home.run(["list", "--json"])).stdout.toString(), "[]\n");
  });

  test("info and bounce read well, by operand or by -s", async () => {
    daemon.add("web");
    assert.match((await home.run(["info", "web"])).stdout.toString(), /^name +web\n[\s\S]*^machine +2 CPUs, 1024 MB memory, 100 GB disk$/m);
    assert.match((await home.run(["bounce", "-s", "web"])).stdout.toString(), /^Bounced web in 413 ms\nSTEP {2}TIME\nstop {2}13 ms\n$/);
  });

  test("destroy without a person needs --force", async () => {
    daemon.add("web");
    const refused = await home.run(["destroy", "web"], { input: "y\n" });
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /^hob: destroy web: nobody is here to confirm it\nhint: --force destroys without asking\n$/);
    assert.ok(daemon.sprites.has("web"));
    assert.equal((await home.run(["destroy", "web", "--force"])).status, 0);
    assert.ok(!daemon.sprites.has("web"));
  });

  test("destroy goes on after a failure and reports it in the exit status", async () => {
    daemon.add("a");
    daemon.add("c");
    const result = await home.run(["destroy", "a", "b", "c", "--force"]);
    assert.equal(result.status, 1);
    assert.equal(result.stdout.toString(), "Destroyed a\nDestroyed c\n");
    assert.match(result.stderr, /hob: no sprite b\nhint: 'hob list' shows them/);
    assert.equal(daemon.sprites.size, 0);
  });
});

describe("what goes wrong is said, never thrown", () => {
  test("usage errors end with 2 and name the help", async () => {
    const cases: [string[], RegExp][] = [
      [["nope"], /^hob: unknown command 'nope'\nhint: 'hob --help' shows what there is\n$/],
      [["lst"], /Did you mean/],
      [["list", "--foo"], /^hob: unknown option '--foo'\nhint: 'hob list --help' shows what there is\n$/],
      [["--foo"], /^hob: unknown option '--foo'/],
      [["create"], /^hob: missing required argument 'name'/],
      [["create", "a", "b"], /^hob: too many arguments/],
      [["create", "a", "--cpus", "many"], /whole number from 1 to 16/],
      [["create", "a", "--cpus", "99"], /whole number from 1 to 16/],
      [["create", "a", "--env", "novalue"], /NAME=VALUE/],
      [["exec"], /^hob: no sprite named/],
      [["exec", "web"], /^hob: no command for web/],
      [["exec", "-s", "web"], /^hob: no command for web/],
      [["token"], /^Usage: hob token/],
      [["completion", "tcsh"], /^hob: shell 'tcsh' is not one of bash, zsh, fish\n/],
      [["sessions", "nope"], /^hob: unknown command 'nope'\nhint: 'hob sessions --help' shows what there is\n$/],
      [["s", "kill", "web", "7", "--timeout", "x"], /\nhint: 'hob sessions kill --help' shows what there is\n$/],
      [["help", "nope"], /^hob: unknown command 'nope'\nhint: 'hob --help' shows what there is\n$/],
      [["cp", "a", "b"], /^hob: neither path is of a sprite\n/],
      [["serve", "more"], /too many arguments/],
    ];
    for (const [args, message] of cases) {
      const { status, stderr, stdout } = await home.run(args);
      assert.deepEqual([status, stdout.toString()], [2, ""], `${args.join(" ")}: ${stderr}`);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /^\s+at /m);
    }
  });

  test("no daemon was ever started, or it is gone", async () => {
    using empty = new TestHome();
    const never = await empty.run(["list"]);
    assert.equal(never.status, 1);
    assert.match(never.stderr, /^hob: no daemon has been started with the home .*\nhint: start it with 'hob serve'/);
    const gone = await home.run(["list", "--url", "http://127.0.0.1:1", "--token", "t"]);
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /^hob: .*no daemon answers at http:\/\/127\.0\.0\.1:1 .*\nhint: start it with 'hob serve'\n$/);
  });

  test("malformed files and settings are named", async () => {
    using broken = new TestHome().connect(daemon);
    writeFileSync(join(broken.path, "token"), "");
    assert.match((await broken.run(["list"])).stderr, /^hob: no token is in /);
    writeFileSync(join(broken.path, "hobd.json"), "{");
    assert.match((await broken.run(["list"])).stderr, /^hob: read .*hobd\.json: not the record of a daemon\nhint: /);
    writeFileSync(join(broken.path, "hobd.json"), "null");
    assert.match((await broken.run(["list"])).stderr, /not the record of a daemon/);
    using folder = new TestHome();
    mkdirSync(join(folder.path, "hobd.json"));
    assert.match((await folder.run(["list"])).stderr, /^hob: read .*hobd\.json: EISDIR/);
    const badUrl = await home.run(["list"], { env: { HOB_URL: "localhost", HOB_TOKEN: "t" } });
    assert.deepEqual([badUrl.status, badUrl.stderr.split("\n")[0]], [1, "hob: 'localhost' is not a URL of a daemon"]);
  });

  test("the home's token is not given to another server", async () => {
    const other = await TestDaemon.start();
    try {
      const refused = await home.run(["list", "--url", other.url]);
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, /no token is known for/);
      assert.equal(other.requests.length, 0);
      assert.equal((await home.run(["list", "--url", daemon.url.replace("127.0.0.1", "localhost")])).status, 0);
      assert.equal((await home.run(["list"], { env: { HOB_URL: other.url, HOB_TOKEN: "hob/test/secret" } })).status, 0);
    } finally {
      await other.close();
    }
  });

  test("the server's message and hint are shown; its control characters are not obeyed", async () => {
    daemon.faults.answer = { status: 400, body: errorBody("name_taken", "the \x1b[31mname\x07 is taken", "choose another") };
    const { status, stderr } = await home.run(["create", "web"]);
    assert.equal(status, 1);
    assert.equal(stderr, "Creating web ...\nhob: the ?[31mname? is taken\nhint: choose another\n");
  });

  test("HOB_DEBUG=1 shows where it happened, nothing else does", async () => {
    const args = ["list", "--url", "http://127.0.0.1:1", "--token", "t"];
    assert.match((await home.run(args, { env: { HOB_DEBUG: "1" } })).stderr, /^\s+at /m);
    assert.doesNotMatch((await home.run(args)).stderr, /^\s+at /m);
  });

  test("a reader that goes away ends hob quietly", async () => {
    for (let index = 0; index < 3000; index++) daemon.add(`sprite-with-a-long-name-${index}`);
    const child = home.start(["list", "--json"]);
    const end = ended(child);
    child.stdout.once("data", () => child.stdout.destroy());
    const { status, stderr } = await end;
    assert.deepEqual([status, stderr], [141, ""]);
  });
});

describe("the command itself", () => {
  test("it runs through a link, from anywhere, and under an older Node.js", async () => {
    using place = new TestHome();
    const link = join(place.path, "linked");
    symlinkSync(HOB, link);
    const { spawn } = await import("node:child_process");
    const viaLink = await ended(spawn(link, ["version"], { cwd: "/", env: place.env }));
    assert.match(viaLink.stdout.toString(), /^hob \d+\.\d+\.\d+ \(node 24\./, viaLink.stderr);
    const viaNode = await ended(spawn("node", [link, "version"], { cwd: "/", env: place.env }));
    assert.match(viaNode.stdout.toString(), /^hob \d+\.\d+\.\d+ \(node 2[4-9]\./, viaNode.stderr);
  });

  test("a cache folder that cannot be made costs nothing but time", async () => {
    const { status, stderr } = await home.run(["version"], { env: { HOB_CACHE: "/proc/nowhere" } });
    assert.deepEqual([status, stderr], [0, ""]);
  });

  test("help goes to standard output, has an example for each command, and no colour without a terminal", async () => {
    const top = await home.run([]);
    assert.equal(top.status, 0);
    const commands = [...top.stdout.toString().matchAll(/^ {2}([a-z]+)\|?\S* /gm)]
      .map((match) => match[1] as string)
      .filter((name) => name !== "help");
    assert.deepEqual(commands, COMMAND_NAMES);
    for (const name of commands) {
      const { status, stdout } = await home.run(["help", name]);
      assert.equal(status, 0);
      assert.match(stdout.toString(), /^Examples?:\n {2}\$ /m, name);
      assert.ok(!stdout.includes(0x1b), name);
    }
  });
});
