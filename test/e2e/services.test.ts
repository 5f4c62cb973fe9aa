import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { ServiceLogEvent, ServiceLogStream } from "@fly/sprites";
import type { Service } from "@hob/protocol";
import { covers } from "./support/covers.ts";
import { outputOf, shell } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 120_000 };

const sinkFolder = mkdtempSync(join(tmpdir(), "hob-sink-"));
const sink = join(sinkFolder, "services.ndjson");
after(() => rmSync(sinkFolder, { recursive: true, force: true }));

const suite = useDaemon({ sprites: ["box"], flags: ["--log-sink", `file:${sink}`] });
const box = () => suite.sprite("box");
const inside = (script: string): Promise<string> => outputOf(box(), script);
const LOOP = "while :; do sleep 1; done";
const sh = (script: string) => ({ cmd: "sh", args: ["-c", script] });

async function eventsOf(stream: Promise<ServiceLogStream>): Promise<ServiceLogEvent[]> {
  const events: ServiceLogEvent[] = [];
  for await (const event of await stream) events.push(event);
  return events;
}
const typesOf = async (stream: Promise<ServiceLogStream>) => (await eventsOf(stream)).map(({ type }) => type);
const put = (name: string, script: string, more: object = {}) => typesOf(box().createService(name, { ...sh(script), ...more }, "0s"));
const state = async (name: string) => (await box().getService(name)).state ?? assert.fail(`no state of ${name}`);
const becomes = (name: string, status: string) => until(`${name} ${status}`, async () => (await state(name)).status === status, 30_000);
/** Lines come one by one or several at once. */
const linesOf = async (name: string) =>
  (await eventsOf(box().getServiceLogs(name))).flatMap(({ type, data = "" }) =>
    type === "stdout" || type === "stderr" ? (data.match(/[^\n]*\n/g) ?? []) : [],
  );

test("every method of the SDK, and what it says when it cannot", LIMIT, async () => {
  covers("GET /v1/sprites/{name}/services", "GET /v1/sprites/{name}/services/{service}", "PUT /v1/sprites/{name}/services/{service}");
  covers("DELETE /v1/sprites/{name}/services/{service}", "POST /v1/sprites/{name}/services/{service}/start");
  covers("POST /v1/sprites/{name}/services/{service}/stop", "POST /v1/sprites/{name}/services/{service}/restart");
  covers("GET /v1/sprites/{name}/services/{service}/logs", "POST /v1/sprites/{name}/services/signal");
  assert.deepEqual(await box().listServices(), []);
  for (const refused of [
    () => box().getService("web"),
    () => box().startService("web"),
    () => box().stopService("web"),
    () => box().signalService("web", "HUP"),
    () => box().deleteService("web"),
  ]) {
    await assert.rejects(refused(), /^Error: Service not found/);
  }
  await assert.rejects(box().restartService("web"), /status 404/);
  await assert.rejects(box().getServiceLogs("web"), /status 404/);
  const following = await box().createService("web", sh(`echo hello; trap 'echo hup' HUP; ${LOOP}`), "1h");
  for await (const { type, data } of following) if (type === "stdout" && data === "hello\n") break;
  await box().signalService("web", "HUP");
  await until("its answer", async () => (await linesOf("web")).includes("hup\n"));
  await assert.rejects(box().signalService("web", "NOPE"), /^Error: Invalid signal/);
  const restarted = (await typesOf(box().restartService("web", "0s"))).filter((type) => type !== "stdout");
  assert.deepEqual(restarted, ["stopping", "stopped", "started", "complete"]);
  const stopped: ServiceLogEvent[] = [];
  await (await box().stopService("web", "5s")).processAll((event) => {
    stopped.push(event);
  });
  assert.deepEqual([stopped.at(-2)?.type, stopped.at(-2)?.exitCode], ["stopped", 143]);
  assert.equal(stopped.at(-1)?.logFiles?.combined, "/.sprite/logs/services/web.log");
  await assert.rejects(box().stopService("web"), /^Error: Service not running/);
  await assert.rejects(box().signalService("web", "HUP"), /^Error: Service not running/);
  assert.equal((await typesOf(box().startService("web", "0s")))[0], "started");
  await assert.rejects(box().startService("web"), /status 409/);
  assert.deepEqual(
    (await box().listServices()).map(({ name, state }) => [name, state?.status]),
    [["web", "running"]],
  );
  await box().deleteService("web");
  await assert.rejects(box().getService("web"), /^Error: Service not found/);
});

test("its pid is one that the sprite sees; its cgroup and all it started end with it", LIMIT, async () => {
  await put("daemons", `(setsid sh -c 'exec sleep 4321' &); ${LOOP}`);
  const { pid } = await state("daemons");
  assert.match(
    await inside(`tr '\\0' ' ' </proc/${pid}/cmdline; cat /proc/${pid}/cgroup; stat -c %U /proc/${pid}`),
    /sh -c .*0::\/service-daemons\nsprite$/s,
  );
  await until("the daemon", async () => (await shell(box(), "pgrep -f 'sleep 4321' -x")).code === 0);
  await box().deleteService("daemons");
  assert.equal(
    await inside("pgrep -fx 'sleep 4321'; ls -d /sys/fs/cgroup/service-* 2>/dev/null; ps -e -o comm= | grep -c -v -e ps -e grep -e sh"),
    "2",
  );
});

test("a crash loop waits longer each time, and a stop ends it", LIMIT, async () => {
  await put("crash", "echo run; exit 7");
  await until("three restarts", async () => ((await state("crash")).restartCount ?? 0) >= 3, 60_000);
  await becomes("crash", "failed");
  const { error, nextRestartAt } = await state("crash");
  assert.equal(error, "exited with status 7");
  assert.ok(nextRestartAt !== undefined);
  await eventsOf(box().stopService("crash"));
  const { status, nextRestartAt: none, pid } = await state("crash");
  assert.deepEqual([status, none, pid], ["stopped", undefined, undefined]);
  assert.ok((await linesOf("crash")).length >= 3, "its log is there after its end");
  assert.match(await inside("head -1 /.sprite/logs/services/crash.log"), /^\d{4}-\d\d-\d\dT[\d:.]{12}Z \[stdout\] run$/);
  assert.notEqual(
    (await shell(box(), "sudo touch /.sprite/logs/services/x || sudo rm /.sprite/logs/services/crash.log")).code,
    0,
    "read-only",
  );
  await box().deleteService("crash");
  const missing = await eventsOf(box().createService("missing", { cmd: "/nowhere" }, "100ms"));
  assert.match(missing.find(({ type }) => type === "error")?.data ?? "", /^Failed to start service: \/nowhere: No such file/);
  await box().deleteService("missing");
});

test("a bounce brings back what ran, in order, and leaves alone what was stopped", LIMIT, async () => {
  const note = (name: string) => `echo ${name} >>/tmp/order; trap 'echo end-${name} >>/tmp/order; exit 0' TERM; ${LOOP}`;
  await put("db", note("db"));
  await put("app", note("app"), { needs: ["db"] });
  await put("still", note("still"));
  await eventsOf(box().stopService("still"));
  await inside("rm /tmp/order");
  await assert.rejects(put("db", LOOP, { needs: ["app"] }), /db → app → db/);
  await assert.rejects(box().deleteService("db"), /^Error: Service conflict.*app/s);
  assert.equal((await suite.daemon.hob("bounce", "box")).code, 0);
  await becomes("app", "running");
  await until("both have started", async () => (await inside("cat /tmp/order")).split("\n").at(-1) === "app");
  const order = (await inside("cat /tmp/order")).split("\n");
  assert.deepEqual(order.slice(-2), ["db", "app"]);
  // On a busy machine the last may not have had the time to end by itself.
  assert.deepEqual(order.slice(0, -2), ["end-app", "end-db"].slice(0, order.length - 2));
  assert.equal((await state("still")).status, "stopped");
  for (const name of ["app", "db", "still"]) await box().deleteService(name);
});

test("sprite-env does the same from inside, whatever the arguments are", LIMIT, async () => {
  const info = JSON.parse(await inside("sprite-env info")) as Record<string, string>;
  assert.deepEqual(Object.keys(info), ["org", "sprite_id", "sprite_name", "sprite_url", "version"]);
  assert.equal(info.sprite_name, "box");
  const odd = `a "b" \\ ' $HOME ü\n\ttab`;
  await inside(
    `sprite-env services create odd --no-stream --env 'A=1,B=x\\,y' -- sh -c 'printf "%s|" "$@" "$A" "$B"; echo; ${LOOP}' sh '${odd.replaceAll("'", "'\\''")}'`,
  );
  await until("its output", async () => (await linesOf("odd")).join("").includes("x,y|"));
  assert.equal((await linesOf("odd")).join(""), `${odd}|1|x,y|\n`);
  const created = (
    await inside("sprite-env services create site --cmd python3 --args '-m,http.server,8000' --http-port 8000 --needs odd --duration 100ms")
  ).split("\n");
  assert.deepEqual(
    created.map((line) => JSON.parse(line).type).filter((type) => type !== "stderr" && type !== "stdout"),
    ["started", "complete"],
  );
  const site = JSON.parse(await inside("sprite-env services get site")) as Service;
  assert.deepEqual([site.args, site.needs, site.http_port, site.state.status], [["-m", "http.server", "8000"], ["odd"], 8000, "running"]);
  assert.deepEqual(
    (JSON.parse(await inside("sudo sprite-env services list")) as Service[]).map(({ name }) => name),
    ["odd", "site"],
  );
  const refused = await shell(box(), "sprite-env services delete odd");
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /site needs it/);
  assert.equal((await shell(box(), "sprite-env services frobnicate")).code, 2);
  assert.match(await inside("sprite-env services --help"), /--http-port/);
  await inside("sprite-env services signal site HUP && sprite-env services delete site && sprite-env curl -X DELETE /v1/services/odd");
  assert.equal(await inside("sprite-env curl /v1/services"), "[]");
  assert.equal((await shell(box(), "sudo -u nobody sprite-env info")).code, 1, "only for the sprite's user and root");
});

test("tasks: made, renewed, ended; an hour at most", LIMIT, async () => {
  covers("GET /v1/sprites/{name}/tasks", "GET /v1/sprites/{name}/tasks/{task}", "POST /v1/sprites/{name}/tasks");
  covers("PUT /v1/sprites/{name}/tasks", "PUT /v1/sprites/{name}/tasks/{task}", "DELETE /v1/sprites/{name}/tasks/{task}");
  const made = JSON.parse(await inside("sprite-env tasks create build --expire 30m")) as { started_at: string; expires_at: string };
  assert.equal(Math.round((Date.parse(made.expires_at) - Date.parse(made.started_at)) / 1000), 1_800);
  assert.equal((await shell(box(), "sprite-env tasks create build")).code, 1, "409");
  assert.equal((await shell(box(), "sprite-env tasks create long --expire 61m")).code, 1, "400");
  await inside("sprite-env tasks update build --expire 1h");
  const listed = (await (await suite.daemon.fetch("/v1/sprites/box/tasks")).json()) as { tasks: { name: string }[] };
  assert.deepEqual(
    listed.tasks.map(({ name }) => name),
    ["build"],
  );
  await inside(`sprite-env tasks get build && sprite-env curl -X PUT /v1/tasks -d '{"name":"build","expire":60}'`);
  await inside("sprite-env tasks delete build");
  assert.deepEqual(JSON.parse(await inside("sprite-env tasks list")), { tasks: [] });
});

test("nothing but these routes is reached through the socket", LIMIT, async () => {
  const status = (path: string, method = "GET") =>
    inside(`curl -s -o /dev/null -w '%{http_code}' -X ${method} --unix-socket /.sprite/api.sock http://sprite${path}`);
  for (const path of ["/hob/ready", "/v1/sprites/box/services", "/v1/exec?cmd=id", "/v1/diagnostics/stream?bytes=1", "/"]) {
    assert.equal(await status(path), "404", path);
  }
  for (const path of ["/hob/shutdown", "/hob/resumed", "/v1/bounce", "/v1/exec?cmd=id"])
    assert.equal(await status(path, "POST"), "404", path);
  assert.equal(await status("/v1/services"), "200");
});

test("a restore brings back the services of that time, and the log goes on", LIMIT, async () => {
  await put("old", `echo old; ${LOOP}`);
  const made = await suite.daemon.hob("checkpoint", "create", "box", "--json");
  assert.equal(made.code, 0, made.stderr);
  const { id } = JSON.parse(made.stdout.trim().split("\n").at(-1) ?? "") as { id: string };
  await box().deleteService("old");
  await put("new", LOOP);
  const restored = await suite.daemon.hob("restore", "box", id);
  assert.equal(restored.code, 0, restored.stderr);
  await becomes("old", "running");
  assert.deepEqual(
    (await box().listServices()).map(({ name }) => name),
    ["old"],
  );
  await until("its output from before and after", async () => (await linesOf("old")).join("") === "old\nold\n");
  await box().deleteService("old");
});

test("the command line: create, list, logs, stop", LIMIT, async () => {
  const { daemon } = suite;
  const created = await daemon.hob(
    "services",
    "create",
    "box",
    "cli",
    "--env",
    "A=b c",
    "--duration",
    "1s",
    "--",
    "sh",
    "-c",
    `echo "$A"; ${LOOP}`,
  );
  assert.deepEqual([created.code, created.stdout, created.stderr], [0, "b c\n", "Started cli\n"]);
  assert.match((await daemon.hob("services", "list", "box")).stdout, /^cli +running +\d+ +0 +- +sh -c echo/m);
  assert.equal((await daemon.hob("logs", "box", "cli", "-n", "1")).stdout, "b c\n");
  assert.equal((await daemon.hob("services", "stop", "box", "cli")).stderr, "Stopping cli ...\nStopped cli\n");
  assert.equal((await daemon.hob("services", "delete", "box", "cli")).code, 0);
  await until(
    "the line at the sink",
    () => existsSync(sink) && readFileSync(sink, "utf8").includes('"service":"cli","stream":"stdout","text":"b c"}'),
    60_000,
  );
});

test("services are there again after a start from the disk", { timeout: 240_000 }, async () => {
  await put("kept", `echo up; ${LOOP}`);
  await put("still", LOOP);
  await eventsOf(box().stopService("still"));
  await inside("sync");
  const [vmm] = suite.daemon.vmProcesses("qemu");
  assert.ok(vmm);
  process.kill(vmm.pid, "SIGKILL");
  const status = async () => ((await (await suite.daemon.fetch("/v1/sprites/box")).json()) as { status: string }).status;
  await until("it is noticed", async () => (await status()) === "cold");
  // The SDK gives up after 30 s, which a boot may take on a busy machine.
  await until("it runs", async () => (await state("kept")).status === "running", 180_000);
  assert.equal((await state("still")).status, "stopped");
  await until("its output from before and after", async () => (await linesOf("kept")).join("") === "up\nup\n");
});
