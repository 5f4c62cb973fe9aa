import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ended, TestHome } from "./support/run-hob.ts";

const SERVE = join(import.meta.dirname, "support/serve-without-vms.ts");

let home: TestHome;
let children: ChildProcessWithoutNullStreams[];

beforeEach(() => {
  home = new TestHome();
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  home[Symbol.dispose]();
});

async function serve(
  ...args: string[]
): Promise<{ child: ChildProcessWithoutNullStreams; firstOutput: string; end: ReturnType<typeof ended> }> {
  const child = spawn(process.execPath, [SERVE, ...args], { env: { ...home.env, HOB_LISTEN: "127.0.0.1:0" } });
  children.push(child);
  const end = ended(child);
  const firstOutput = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    void end.then(({ stderr }) => reject(new Error(stderr)));
  });
  return { child, firstOutput, end };
}

describe("hob serve", () => {
  test("--json: one line when ready; the CLI finds the daemon; SIGTERM ends it cleanly", async () => {
    const { child, firstOutput, end } = await serve("--json");
    const ready = JSON.parse(firstOutput) as { url: string; token: string };
    assert.equal(readFileSync(join(home.path, "token"), "utf8").trim(), ready.token);
    const made = await home.run(["create", "web", "--json"]);
    assert.equal(made.status, 0, made.stderr);
    assert.match((await home.run(["list"])).stdout.toString(), /^web +running/m);
    const taken = await home.run(["create", "web"]);
    assert.equal(taken.status, 1);
    assert.match(taken.stderr, /hob: .*web/);
    child.kill("SIGTERM");
    const { status, stdout } = await end;
    assert.deepEqual([status, stdout.toString()], [0, firstOutput]);
    assert.ok(!existsSync(join(home.path, "hobd.json")));
    assert.match((await home.run(["list"])).stderr, /hint: start it with 'hob serve'/);
  });

  test("for people: where it is, where the token is, what to try", async () => {
    const { child, firstOutput, end } = await serve();
    assert.match(firstOutput, /^Hob is ready at http:\/\/127\.0\.0\.1:\d+/);
    child.kill("SIGINT");
    const { status, stdout, stderr } = await end;
    assert.equal(status, 0);
    assert.match(stdout.toString(), /hob create web\n/);
    assert.ok(stdout.includes(join(home.path, "token")));
    assert.equal(stderr, "Stopped.\n");
  });

  test("settings that make no sense are named", async () => {
    for (const args of [
      ["--listen", "here"],
      ["--max-running", "0"],
      ["--domain", "-x"],
    ]) {
      const { status, stderr } = await home.run(["serve", ...args]);
      assert.equal(status, 1);
      assert.match(stderr, /^hob: read setting .*\nhint: /, args.join(" "));
    }
  });
});

describe("hob token", () => {
  test("made and revoked offline, and while the daemon runs", async () => {
    const offline = (await home.run(["token", "create", "laptop"])).stdout.toString().trim();
    assert.match(offline, /^hob\/\S+\/\S+$/);
    const { firstOutput } = await serve("--json");
    const { url } = JSON.parse(firstOutput) as { url: string };
    const online = JSON.parse((await home.run(["token", "create", "--json"])).stdout.toString()) as { id: string; token: string };
    for (const token of [offline, online.token]) assert.equal((await home.run(["list", "--url", url, "--token", token])).status, 0);
    const list = await home.run(["token", "list"]);
    assert.match(list.stdout.toString(), /laptop/);
    assert.ok(!list.stdout.toString().includes(online.token.split("/")[2] as string));
    assert.equal((await home.run(["token", "revoke", online.id])).status, 0);
    const refused = await home.run(["list", "--url", url, "--token", online.token]);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /hint: /);
    const again = await home.run(["token", "revoke", online.id]);
    assert.equal(again.status, 1);
    assert.match(again.stderr, /hint: 'hob token list' shows the ids/);
  });
});
