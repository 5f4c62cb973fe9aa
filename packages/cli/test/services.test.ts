import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { errorBody } from "../../client/test/support/test-daemon.ts";
import { startHob } from "./support/run-hob.ts";

const { daemon, home } = await startHob();
beforeEach(() => {
  daemon.requests.length = 0;
});

const stream = (...events: object[]) => ({ status: 200, body: events.map((event) => `${JSON.stringify(event)}\n`).join("") });
const api = {
  name: "api",
  cmd: "npm",
  args: ["start"],
  env: { SECRET: "hidden" },
  needs: ["db"],
  http_port: 3000,
  state: { name: "api", status: "failed", restart_count: 2, error: "exited with status 1", next_restart_at: "2026-06-02T17:11:17.821Z" },
};

test("what a service writes stays on its two streams, what happens to it goes to standard error", async () => {
  daemon.faults.answer = stream(
    { type: "started", timestamp: 1 },
    { type: "stdout", data: "out\n", timestamp: 2 },
    { type: "stderr", data: "err\n", timestamp: 3 },
    { type: "complete", log_files: {}, timestamp: 4 },
  );
  const args = [
    "services",
    "create",
    "web",
    "api",
    "--env",
    "A=b=c",
    "--needs",
    "db,cache",
    "--http-port",
    "3000",
    "--dir",
    "/srv",
    "--duration",
    "2s",
  ];
  const { status, stdout, stderr } = await home.run([...args, "--", "npm", "start", "-s", "--json"]);
  assert.deepEqual([status, stdout.toString(), stderr], [0, "out\n", "Started api\nerr\n"]);
  const [seen] = daemon.requests;
  assert.equal(`${seen?.method} ${seen?.url.pathname}${seen?.url.search}`, "PUT /v1/sprites/web/services/api?duration=2s");
  assert.deepEqual(JSON.parse(seen?.body ?? ""), {
    cmd: "npm",
    args: ["start", "-s", "--json"],
    env: { A: "b=c" },
    dir: "/srv",
    needs: ["db", "cache"],
    http_port: 3000,
  });
});

test("a service that ends by itself, or cannot be started, makes hob fail", async () => {
  daemon.faults.answer = stream({ type: "started", timestamp: 1 }, { type: "exit", exit_code: 3, timestamp: 2 });
  const ended = await home.run(["services", "start", "web", "api"]);
  assert.deepEqual([ended.status, ended.stderr], [1, "Started api\napi ended with exit status 3\n"]);
  daemon.faults.answer = stream({ type: "error", data: "Failed to start service: npm: command not found", timestamp: 2 });
  const missing = await home.run(["services", "restart", "-s", "web", "api"]);
  assert.deepEqual([missing.status, missing.stderr], [1, "hob: Failed to start service: npm: command not found\n"]);
  daemon.faults.answer = stream({ type: "stopping", timestamp: 1 }, { type: "stopped", exit_code: 143, timestamp: 2 });
  assert.equal((await home.run(["services", "stop", "web", "api", "--timeout", "1s"])).status, 0);
  assert.equal(daemon.requests.at(-1)?.url.search, "?timeout=1s");
});

test("list and get, for people and for programs, without the values of variables", async () => {
  daemon.faults.answer = { status: 200, body: JSON.stringify([api]) };
  const list = await home.run(["services", "ls", "web"]);
  assert.match(
    list.stdout.toString(),
    /^SERVICE {2}STATUS {2}PID {2}RESTARTS {2}PORT {2}COMMAND\napi {6}failed {2}- {4}2 {9}3000 {2}npm start\n$/,
  );
  assert.deepEqual(JSON.parse((await home.run(["services", "list", "web", "--json"])).stdout.toString()), [api]);
  daemon.faults.answer = { status: 200, body: JSON.stringify(api) };
  const one = (await home.run(["services", "get", "web", "api"])).stdout.toString();
  assert.match(one, /^status +failed$/m);
  assert.match(one, /^error +exited with status 1$/m);
  assert.doesNotMatch(one, /hidden/);
});

test("logs pass on what was asked", async () => {
  daemon.faults.answer = stream({ type: "stdout", data: "line\n", timestamp: 1_780_420_274_555 });
  assert.equal((await home.run(["logs", "web", "api", "-n", "5", "-f", "-t"])).stdout.toString(), "2026-06-02T17:11:14.555Z line\n");
  assert.equal(daemon.requests.at(-1)?.url.search, "?lines=5&duration=575h");
  assert.equal((await home.run(["logs", "-s", "web", "api"])).stdout.toString(), "line\n");
  assert.equal(daemon.requests.at(-1)?.url.search, "");
});

test("signal and delete", async () => {
  daemon.faults.answer = { status: 204, body: "" };
  assert.equal((await home.run(["services", "signal", "web", "api", "HUP"])).stdout.toString(), "Sent HUP to api of web\n");
  assert.deepEqual(JSON.parse(daemon.requests.at(-1)?.body ?? ""), { name: "api", signal: "HUP" });
  assert.equal((await home.run(["services", "delete", "web", "a/b"])).stdout.toString(), "Deleted a/b of web\n");
  assert.equal(daemon.requests.at(-1)?.url.pathname, "/v1/sprites/web/services/a%2Fb");
});

test("what goes wrong is said", async () => {
  daemon.faults.answer = { status: 409, body: errorBody("conflict", "another service already has an HTTP port configured") };
  const refused = await home.run(["services", "create", "web", "api", "--cmd", "npm"]);
  assert.deepEqual([refused.status, refused.stderr], [1, "hob: another service already has an HTTP port configured\n"]);
  daemon.faults.answer = { status: 200, body: "no json\n" };
  assert.match((await home.run(["logs", "web", "api"])).stderr, /^hob: .*is not JSON/);
  for (const args of [
    ["services"],
    ["services", "create", "web", "api"],
    ["services", "create", "web", "api", "--cmd", "a", "--", "b"],
    ["services", "create", "web", "api", "--http-port", "70000", "--cmd", "a"],
    ["services", "start", "web"],
    ["logs"],
  ]) {
    assert.equal((await home.run(args)).status, 2, args.join(" "));
  }
});
