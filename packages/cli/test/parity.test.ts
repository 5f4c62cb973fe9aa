import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";
import { TEST_TOKEN } from "../../client/test/support/test-daemon.ts";
import { startHob, TestHome } from "./support/run-hob.ts";

const { daemon, home } = await startHob();
const project = join(home.path, "project");

beforeEach(() => {
  daemon.sprites.clear();
  daemon.requests.length = 0;
  daemon.faults = {};
  rmSync(project, { recursive: true, force: true });
  mkdirSync(join(project, "deep/er"), { recursive: true });
});

const hob = (...args: string[]) => home.run(args, { cwd: project });
const output = async (...args: string[]) => {
  const { status, stdout, stderr } = await hob(...args);
  assert.equal(status, 0, stderr);
  return stdout.toString();
};

describe("hob use", () => {
  test("the chosen sprite is meant by commands that name none, here and below; -s and a name win", async () => {
    for (const name of ["web", "other"]) daemon.add(name);
    assert.match(await output("use", "web"), /^web is the sprite of /);
    assert.deepEqual(JSON.parse(readFileSync(join(project, ".hob"), "utf8")), { sprite: "web" });
    assert.equal(await output("use"), "web\n");
    const below = await home.run(["info"], { cwd: join(project, "deep/er") });
    assert.match(below.stdout.toString(), /^name +web$/m);
    assert.match(await output("info", "other"), /^name +other$/m);
    assert.match(await output("info", "-s", "other"), /^name +other$/m);
    assert.equal(await output("exec", "--", "echo", "hi"), "hi\n");
    assert.ok(daemon.requests.at(-1)?.url.pathname.endsWith("/web/exec"));
    assert.match(await output("use", "--unset"), /^Removed .*\.hob$/m);
    assert.ok(!existsSync(join(project, ".hob")));
    const none = await hob("info");
    assert.equal(none.status, 2);
    assert.match(none.stderr, /no sprite named\nhint: hob info NAME, or choose one/);
  });

  test("an unknown sprite is not chosen, a damaged file is named, a folder of that name is none", async () => {
    assert.equal((await hob("use", "none")).status, 1);
    assert.ok(!existsSync(join(project, ".hob")));
    writeFileSync(join(project, ".hob"), "{");
    const damaged = await hob("info");
    assert.equal(damaged.status, 1);
    assert.match(damaged.stderr, /\.hob: it names no sprite\nhint: 'hob use NAME' writes it anew/);
    rmSync(join(project, ".hob"));
    mkdirSync(join(project, ".hob"));
    assert.equal((await hob("info")).status, 2);
    assert.match((await hob("use")).stderr, /No sprite is chosen/);
    assert.match((await hob("use", "--unset")).stderr, /No sprite is chosen/);
  });
});

describe("hob api", () => {
  test("paths of the API, and paths below the sprite; the answer as it is", async () => {
    daemon.add("web");
    assert.equal(JSON.parse(await output("api", "/v1/sprites/web")).name, "web");
    await output("api", "-s", "web", "check?x=1");
    assert.equal(daemon.requests.at(-1)?.url.pathname + String(daemon.requests.at(-1)?.url.search), "/v1/sprites/web/check?x=1");
    await output("use", "web");
    await output("api", "/check");
    assert.equal(daemon.requests.at(-1)?.url.pathname, "/v1/sprites/web/check");
    assert.equal(daemon.requests.at(-1)?.authorization, `Bearer ${TEST_TOKEN}`);
  });

  test("options before and after the dashes; data from the line, a file and standard input", async () => {
    daemon.add("web");
    writeFileSync(join(project, "body.json"), '{"labels":["from-file"]}');
    await output("api", "/v1/sprites/web", "--", "-X", "PUT", "-d", '{"labels":["a"]}', "-H", "X-Mine: 1");
    assert.deepEqual([daemon.requests.at(-1)?.method, daemon.requests.at(-1)?.body], ["PUT", '{"labels":["a"]}']);
    await output("api", "-X", "put", "-d", "@body.json", "/v1/sprites/web");
    assert.deepEqual([daemon.requests.at(-1)?.method, daemon.requests.at(-1)?.body], ["PUT", '{"labels":["from-file"]}']);
    const piped = await home.run(["api", "/v1/sprites/web/sleep", "-d", "@-"], { input: '{"force":true}', cwd: project });
    assert.equal(piped.status, 0, piped.stderr);
    assert.deepEqual([daemon.requests.at(-1)?.method, daemon.requests.at(-1)?.body], ["POST", '{"force":true}']);
    assert.match(await output("api", "-i", "/v1/sprites/web"), /^HTTP\/1\.1 200 OK\ncontent-type: application\/json\n[\s\S]*\n\n\{/);
  });

  test("a status of failure is one of hob, with the body for the reader; nonsense is usage", async () => {
    const missing = await hob("api", "/v1/sprites/none");
    assert.equal(missing.status, 1);
    assert.equal(JSON.parse(missing.stdout.toString()).error, "not_found");
    assert.match(missing.stderr, /status 404/);
    for (const args of [["a b"], ["/v1/x", "--", "-Q"], ["/v1/x", "-H", "nonsense"], ["/v1/x", "-X", "A B"], ["/v1/x", "-d", "@none"]]) {
      assert.equal((await hob("api", ...args)).status, 2, args.join(" "));
    }
    assert.equal((await hob("api", "check")).status, 2, "no sprite to be below of");
  });
});

describe("hob config", () => {
  test("what is kept is used, and a kept token goes to its own server only", async () => {
    using apart = new TestHome();
    const run = (args: string[], more: { input?: string; env?: Record<string, string> } = {}) => apart.run(args, more);
    daemon.add("web");
    assert.equal((await run(["config", "set", "url", daemon.url])).status, 0);
    assert.equal((await run(["config", "set", "token", "-"], { input: `${TEST_TOKEN}\n` })).status, 0);
    assert.equal(statSync(join(apart.path, "config.json")).mode & 0o777, 0o600);
    assert.match((await run(["list"])).stdout.toString(), /web/);
    const elsewhere = await run(["list"], { env: { HOB_URL: "http://127.0.0.1:1" } });
    assert.match(elsewhere.stderr, /no token is known for http:\/\/127\.0\.0\.1:1/);
    const shown = (await run(["config", "show"])).stdout.toString();
    assert.ok(shown.includes(daemon.url) && shown.includes("hob/test/…") && !shown.includes("secret"), shown);
    const json = JSON.parse((await run(["config", "show", "--json"], { env: { HOB_URL: "http://x" } })).stdout.toString());
    assert.deepEqual([json.url, json.token.value], [{ value: "http://x", from: "HOB_URL" }, "hob/test/…"]);
    assert.equal((await run(["config", "unset", "token"])).status, 0);
    assert.deepEqual(JSON.parse(readFileSync(join(apart.path, "config.json"), "utf8")), { url: daemon.url });
    assert.equal((await run(["config", "unset"])).status, 0);
    assert.ok(!existsSync(join(apart.path, "config.json")));
  });

  test("what cannot be is refused, and a damaged file is named", async () => {
    using apart = new TestHome();
    assert.match((await apart.run(["config", "set", "url", "nonsense"])).stderr, /'nonsense' is not a URL/);
    assert.equal((await apart.run(["config", "set", "colour", "red"])).status, 2);
    writeFileSync(join(apart.path, "config.json"), "[");
    assert.match((await apart.run(["list"])).stderr, /config\.json: not settings of hob\nhint: 'hob config unset'/);
    assert.equal((await apart.run(["config", "unset"])).status, 0);
  });
});

describe("life of a sprite", () => {
  test("info says what holds it, sleep puts it to sleep, info says until when", async () => {
    daemon.add("web");
    assert.match(await output("info", "web"), /^held awake by +exec GET \/exec, since \d+s ago$/m);
    assert.equal(await output("sleep", "web"), "web is warm\n");
    const info = await output("info", "web");
    assert.match(info, /^memory kept +until 2030-01-01T00:00:00\.000Z$/m);
    assert.match(info, /^last wake +\d+s ago, by GET \/exec$/m);
    assert.equal(JSON.parse(await output("info", "web", "--json")).activity.status, "warm");
  });

  test("one that is in use sleeps by force only", async () => {
    daemon.add("busy");
    const refused = await hob("sleep", "busy");
    assert.deepEqual([refused.status, refused.stderr], [1, "hob: put sprite busy to sleep: it is in use\nhint: repeat with force\n"]);
    assert.deepEqual(JSON.parse(await output("sleep", "busy", "--force", "--json")), { sprite_name: "busy", status: "warm" });
  });

  test("restart, upgrade and update", async () => {
    daemon.add("web");
    assert.equal(await output("restart", "web"), "web restarted in 1.0 s\n");
    assert.equal(await output("upgrade", "web"), "web is on the newest images\n");
    assert.equal(await output("update", "web", "--label", "a", "--label", "b", "--idle-timeout", "10m"), "Updated web\n");
    assert.deepEqual(JSON.parse(daemon.requests.at(-1)?.body ?? ""), { labels: ["a", "b"], idle_timeout_seconds: 600 });
    await output("update", "web", "--clear-labels", "--idle-timeout", "default");
    assert.deepEqual(JSON.parse(daemon.requests.at(-1)?.body ?? ""), { clear_labels: true, idle_timeout_seconds: null });
    assert.equal((await hob("update", "web")).status, 2);
    assert.equal((await hob("update", "web", "--idle-timeout", "soon")).status, 2);
    await output("create", "new", "--idle-timeout", "0");
    assert.deepEqual(JSON.parse(daemon.requests.at(-1)?.body ?? ""), { name: "new", idle_timeout_seconds: 0 });
  });

  test("list -w prints what there is and every change, for people and for programs", async () => {
    daemon.add("web");
    const people = await output("list", "-w");
    assert.match(people, /^\d\d:\d\d:\d\d {2}web {2}running\n\d\d:\d\d:\d\d {2}gone {2}deleted\n$/);
    const lines = (await output("list", "--watch", "--json")).trim().split("\n");
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).type),
      ["snapshot", "heartbeat", "deleted"],
    );
    daemon.faults.answer = { status: 200, body: '{"type":"snapshot"' };
    assert.equal((await hob("list", "-w")).status, 1);
  });
});
