import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { errorBody, TestDaemon } from "../../client/test/support/test-daemon.ts";
import { TestHome } from "./support/run-hob.ts";

let daemon: TestDaemon;
let home: TestHome;

before(async () => {
  daemon = await TestDaemon.start();
  home = new TestHome().connect(daemon);
});
after(async () => {
  home[Symbol.dispose]();
  await daemon.close();
});
beforeEach(() => {
  daemon.faults = {};
  daemon.requests.length = 0;
});

const answer = (body: unknown, status = 200) => {
  daemon.faults.answer = { status, body: typeof body === "string" ? body : JSON.stringify(body) };
};
const run = async (...args: string[]) => {
  const { status, stdout, stderr } = await home.run(args);
  return { status, stdout: stdout.toString(), stderr };
};
const CURRENT = {
  id: "Current",
  create_time: new Date().toISOString(),
  comment: "",
  source_id: "v2",
  health: "",
  history: ["v2"],
  is_auto: false,
};
const AUTO = { ...CURRENT, id: "auto-1", source_id: "", history: [], is_auto: true, reason: "sleep" };
const HOSTILE = { ...CURRENT, id: "v2", source_id: "v1", history: ["v1"], comment: "evil\x1b[2J\nline", durable: false };

test("create says the id, and the pause", async () => {
  answer('{"type":"info","data":"x"}\n{"type":"complete","id":"v7","pauseMs":12.4}\n');
  const made = await run("checkpoint", "create", "web", "--comment", "works");
  assert.equal(made.stdout, "Created checkpoint v7 of web; its files stood still for 12 ms\n");
  assert.equal(daemon.requests[0]?.body, '{"comment":"works"}');
  assert.deepEqual(JSON.parse((await run("checkpoint", "create", "-s", "web", "--json")).stdout), { id: "v7", pauseMs: 12.4 });
});

test("create --wait waits until it is durable", async () => {
  answer('{"type":"complete","id":"v7","pauseMs":12.4}\n');
  const made = await run("checkpoint", "create", "web", "--wait");
  assert.match(made.stdout, /^Created checkpoint v7 of web.*\nDurable: v7 is in the object store\n$/);
  assert.deepEqual(
    daemon.requests.map(({ url }) => url.pathname),
    ["/v1/sprites/web/checkpoint", "/v1/sprites/web/sync"],
  );
});

test("list is a table, comments are one harmless line", async () => {
  answer([CURRENT, HOSTILE, AUTO]);
  const { stdout } = await run("checkpoint", "ls", "web", "--include-auto", "--history", "v1");
  const [header, ...rows] = stdout.trimEnd().split("\n");
  assert.match(header ?? "", /^ID +FROM +AGE +DURABLE +COMMENT$/);
  assert.equal(rows.length, 3);
  assert.match(rows[1] ?? "", /^v2 +v1 +\d+s +not yet +evil \[2J line$/);
  assert.match(rows[2] ?? "", /^auto-1 +- +\d+s +- +\(sleep\)$/);
  assert.equal(daemon.requests[0]?.url.search, "?includeAuto=true&history=v1");
  assert.equal((JSON.parse((await run("checkpoint", "list", "web", "--json")).stdout) as unknown[]).length, 3);
});

test("info, delete, restore and undo", async () => {
  answer(HOSTILE);
  assert.match((await run("checkpoint", "info", "web", "v2")).stdout, /^id +v2\n[\s\S]*^derives from +v1$/m);
  answer("", 204);
  assert.equal((await run("checkpoint", "delete", "web", "v2")).stdout, "Deleted checkpoint v2 of web\n");
  answer('{"type":"complete","id":"v1","undoId":"auto-3"}\n');
  for (const args of [["restore"], ["checkpoint", "restore"]]) {
    const restored = await run(...args, "web", "v1");
    assert.match(restored.stdout, /^Restored web to v1 in \d/);
    assert.match(restored.stderr, /kept as auto-3: 'hob undo web'/);
  }
  assert.match((await run("undo", "web")).stdout, /^Restored web to v1 in \d/);
  assert.deepEqual(
    daemon.requests.map(({ method, url }) => `${method} ${url.pathname.replace("/v1/sprites/web", "")}`),
    ["GET /checkpoints/v2", "DELETE /checkpoints/v2", "POST /checkpoints/v1/restore", "POST /checkpoints/v1/restore", "POST /restore/undo"],
  );
});

test("what is missing or wrong is said, with the usage", async () => {
  for (const [args, message] of [
    [["restore"], /no sprite named/],
    [["restore", "web"], /no checkpoint named/],
    [["checkpoint", "delete", "web"], /no checkpoint named/],
    [["restore", "-s", "web", "v1", "v2"], /what is 'v2'/],
  ] as const) {
    const { status, stderr } = await run(...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
  answer(errorBody("not_found", "checkpoint not found: v9", "list the checkpoints"), 404);
  const missing = await run("restore", "web", "v9");
  assert.deepEqual([missing.status, missing.stdout], [1, ""]);
  assert.match(missing.stderr, /hob: checkpoint not found: v9\nhint: list the checkpoints/);
});

test("help and completion know them", async () => {
  assert.match((await run("help", "checkpoint")).stdout, /create[\s\S]*list[\s\S]*info[\s\S]*delete[\s\S]*restore/);
  assert.match((await run("restore", "--help")).stdout, /Example:\n {2}\$ hob restore web v3/);
  assert.match((await run("__complete", "--", "checkpoint", "")).stdout, /^create\t.*\nlist\t.*\ninfo\t.*\ndelete\t.*\nrestore\t/);
  daemon.add("web");
  assert.match((await run("__complete", "--", "checkpoint", "info", "")).stdout, /^web\t/);
  assert.match((await run("__complete", "--", "undo", "")).stdout, /^web\t/);
});
