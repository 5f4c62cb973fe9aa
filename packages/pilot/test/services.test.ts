import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { ServiceLogEvent, ServiceLogStream, ServiceWithState } from "@fly/sprites";
import { containerUnavailable, startContainer } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { collect, waitFor } from "./support/helper.ts";
import { startServicesServer } from "./support/services-server.ts";

const LOOP = "while :; do sleep 1; done";
const sh = (script: string) => ({ cmd: "sh", args: ["-c", script] });

async function eventsOf(stream: Promise<ServiceLogStream>): Promise<ServiceLogEvent[]> {
  const events: ServiceLogEvent[] = [];
  for await (const event of await stream) events.push(event);
  return events;
}
const typesOf = async (stream: Promise<ServiceLogStream>) => (await eventsOf(stream)).map(({ type }) => type);
/** Lines come one by one or several at once. */
const dataOf = async (stream: Promise<ServiceLogStream>) =>
  (await eventsOf(stream)).flatMap(({ type, data = "" }) =>
    type === "stdout" || type === "stderr" ? (data.match(/[^\n]*\n/g) ?? []).map((line) => `${type}:${line}`) : [],
  );

describe("services in a real container, by the official SDK", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startServicesServer);

  const state = async (name: string): Promise<NonNullable<ServiceWithState["state"]>> => {
    const { state } = await suite.server.sprite.getService(name);
    return state ?? assert.fail("no state");
  };
  const becomes = (name: string, status: string) => waitFor(async () => (await state(name)).status === status, `${name} ${status}`);
  const put = (name: string, script: string, more: object = {}) =>
    eventsOf(suite.server.sprite.createService(name, { ...sh(script), ...more }, "0s"));
  const start = (name: string) => eventsOf(suite.server.sprite.startService(name, "0s"));
  const stop = (name: string) => eventsOf(suite.server.sprite.stopService(name));
  const request = (method: string, path: string, body?: string) =>
    fetch(`${suite.server.url}${path}`, { method, ...(body === undefined ? {} : { body }) });
  const inside = async (...argv: string[]) => {
    const spec = { argv, env: { PATH: "/usr/bin:/bin" }, cwd: "/", uid: 0, gid: 0, user: "root", target: suite.container.target };
    return (await collect(suite.helper.client, spec)).stdout;
  };

  test("create shows what it writes, and it runs as the user with environment and folder", async () => {
    const script = `id -un; pwd; echo $FROM_SPRITE $HOME $OWN >&2; printf end; ${LOOP}`;
    const request = { ...sh(script), env: { OWN: "a b" }, dir: "/tmp" };
    const stream = await suite.server.sprite.createService("first", request, "24h");
    const events: ServiceLogEvent[] = [];
    const seen = (wanted: string) => events.flatMap(({ type, data = "" }) => (type === wanted ? [data] : [])).join("");
    for await (const event of stream) {
      events.push(event);
      if (seen("stdout") === "sprite\n/tmp\n" && seen("stderr") === "yes /home/sprite a b\n") break;
    }
    assert.equal(events[0]?.type, "started");
    for (const { timestamp } of events) assert.ok(Math.abs(timestamp - Date.now()) < 60_000, "milliseconds");
    const { pid, startedAt, status } = await state("first");
    assert.equal(status, "running");
    assert.ok(Math.abs(Date.parse(startedAt ?? "") - Date.now()) < 60_000);
    assert.match(await inside("cat", `/proc/${pid}/cmdline`), /while/, "the pid is the one inside");
    const { state: _, ...definition } = await suite.server.sprite.getService("first");
    assert.deepEqual(definition, { name: "first", needs: [], httpPort: null, ...request });
    await suite.server.sprite.deleteService("first");
    assert.equal(await inside("sh", "-c", `test -e /proc/${pid} || echo gone`), "gone\n");
  });

  test("the streams of create, stop, start, restart", async () => {
    assert.deepEqual(await typesOf(suite.server.sprite.createService("cycle", sh(LOOP), "0s")), ["started", "complete"]);
    const stopped = await eventsOf(suite.server.sprite.stopService("cycle", "5s"));
    assert.deepEqual(
      stopped.map(({ type }) => type),
      ["stopping", "stopped", "complete"],
    );
    assert.equal(stopped.find(({ type }) => type === "stopped")?.exitCode, 143);
    const file = "/.sprite/logs/services/cycle.log";
    assert.deepEqual(stopped.at(-1)?.logFiles, { combined: file, stdout: file, stderr: file });
    assert.equal((await state("cycle")).status, "stopped");
    await assert.rejects(suite.server.sprite.stopService("cycle"), /^Error: Service not running/);
    await assert.rejects(suite.server.sprite.signalService("cycle", "HUP"), /^Error: Service not running/);
    assert.deepEqual(await typesOf(suite.server.sprite.startService("cycle", "0s")), ["started", "complete"]);
    assert.equal((await request("POST", "/services/cycle/start")).status, 409);
    const restarted = await typesOf(suite.server.sprite.restartService("cycle", "0s"));
    assert.deepEqual(restarted, ["stopping", "stopped", "started", "complete"]);
    await suite.server.sprite.deleteService("cycle");
  });

  test("a crash is seen, counted and answered with a restart that is announced", async () => {
    const stream = await suite.server.sprite.createService("crash", sh("echo run; exit 3"), "24h");
    const types: string[] = [];
    for await (const { type, exitCode } of stream) {
      types.push(type);
      if (type === "exit") assert.equal(exitCode, 3);
      if (types.filter((seen) => seen === "exit").length === 2) break;
    }
    assert.deepEqual(types, ["started", "stdout", "exit", "started", "stdout", "exit"]);
    await becomes("crash", "failed");
    const { restartCount, nextRestartAt, error } = await state("crash");
    assert.ok((restartCount ?? 0) >= 1 && nextRestartAt !== undefined);
    assert.equal(error, "exited with status 3");
    await stop("crash");
    assert.equal((await state("crash")).status, "stopped");
    await suite.server.sprite.deleteService("crash");
  });

  test("a killed service comes back with another pid; a signal reaches it", async () => {
    await put("web", `trap 'echo got hup' HUP; echo ready; ${LOOP}`);
    await waitFor(async () => (await dataOf(suite.server.sprite.getServiceLogs("web"))).length > 0, "first line");
    const before = (await state("web")).pid;
    await suite.server.sprite.signalService("web", "SIGHUP");
    await waitFor(async () => (await dataOf(suite.server.sprite.getServiceLogs("web"))).includes("stdout:got hup\n"), "answer to HUP");
    await suite.server.sprite.signalService("web", "KILL");
    await waitFor(async () => (await state("web")).restartCount === 1 && (await state("web")).status === "running", "restart");
    assert.notEqual((await state("web")).pid, before);
    await assert.rejects(suite.server.sprite.signalService("web", "NOSUCH"), /^Error: Invalid signal/);
    await assert.rejects(suite.server.sprite.signalService("nothing", "HUP"), /^Error: Service not found/);
    await suite.server.sprite.deleteService("web");
  });

  test("a program that does not exist", async () => {
    const events = await eventsOf(suite.server.sprite.createService("missing", { cmd: "/usr/bin/does-not-exist" }, "300ms"));
    const { data } = events.find(({ type }) => type === "error") ?? assert.fail(JSON.stringify(events));
    assert.equal(data, "Failed to start service: /usr/bin/does-not-exist: No such file or directory");
    assert.equal(events.find(({ type }) => type === "exit")?.exitCode, 127);
    await suite.server.sprite.deleteService("missing");
  });

  test("whatever a service started ends with it, also what made itself a daemon", async () => {
    const name = `sleep-${process.pid}`;
    await put("parent", `cp $(command -v sleep) /tmp/${name}; (setsid /tmp/${name} 1000 &) ; ${LOOP}`);
    // PID 1 of this container reaps nobody, so the dead stay listed.
    const find = `for p in /proc/[0-9]*; do grep -q ${name} $p/comm && grep -q '^State:.[^Z]' $p/status && echo $p; done | wc -l`;
    const count = () => inside("sh", "-c", find);
    if (suite.container.target.cgroupDir === "") return;
    await waitFor(async () => Number(await count()) === 1, "the daemon");
    await stop("parent");
    assert.equal(Number(await count()), 0);
    assert.deepEqual(
      readdirSync(suite.container.target.cgroupDir, { withFileTypes: true }).filter((entry) => entry.isDirectory()),
      [],
    );
    await suite.server.sprite.deleteService("parent");
  });

  test("one that does not heed SIGTERM is killed after the timeout", async () => {
    await put("deaf", `trap '' TERM; echo deaf; ${LOOP}`);
    await waitFor(async () => (await dataOf(suite.server.sprite.getServiceLogs("deaf"))).length > 0, "the trap");
    const events = await eventsOf(suite.server.sprite.stopService("deaf", "200ms"));
    assert.equal(events.find(({ type }) => type === "stopped")?.exitCode, 137);
    await suite.server.sprite.deleteService("deaf");
  });

  test("logs: all, the last, followed, after the end, and after a deletion", async () => {
    await put("writer", `for i in 1 2 3 4 5; do echo $i; done; ${LOOP}`);
    await waitFor(async () => (await dataOf(suite.server.sprite.getServiceLogs("writer"))).length === 5, "five lines");
    await stop("writer");
    const all = (await dataOf(suite.server.sprite.getServiceLogs("writer"))).filter((line) => /:\d/.test(line));
    assert.deepEqual(all, ["stdout:1\n", "stdout:2\n", "stdout:3\n", "stdout:4\n", "stdout:5\n"]);
    assert.equal((await dataOf(suite.server.sprite.getServiceLogs("writer", { lines: 2 }))).length, 2);
    assert.deepEqual(await dataOf(suite.server.sprite.getServiceLogs("writer", { lines: 0 })), []);
    const following = await suite.server.sprite.getServiceLogs("writer", { lines: 1, duration: "1h" });
    await start("writer");
    let followed = "";
    for await (const { type, data } of following) {
      if (type === "stdout") followed += data;
      if (followed.endsWith("\n5\n")) break;
    }
    assert.ok(followed.endsWith("1\n2\n3\n4\n5\n"), followed);
    await suite.server.sprite.deleteService("writer");
    assert.match(readFileSync(join(suite.server.folder, "logs/services/writer.log"), "utf8"), /^\d{4}-.*Z \[stdout\] 1\n/);
    await assert.rejects(suite.server.sprite.getServiceLogs("writer"), /404/);
    await put("writer", LOOP);
    assert.ok((await dataOf(suite.server.sprite.getServiceLogs("writer"))).length >= 10, "its log stays");
    await suite.server.sprite.deleteService("writer");
  });

  test("much output, and output that is not text, pass without loss", async () => {
    const lines = 40_000;
    await put("loud", `seq ${lines}; printf '\\377\\0\\001x\\n' >&2; echo done; ${LOOP}`);
    const log = join(suite.server.folder, "logs/services/loud.log");
    await waitFor(() => existsSync(log) && readFileSync(log, "latin1").includes("[stdout] done\n"), "its end", 30_000);
    const records = readFileSync(log, "latin1").trimEnd().split("\n");
    assert.deepEqual(
      records.filter((record) => /\[stdout\] \d/.test(record)).map((record) => Number(record.split(" ")[2])),
      Array.from({ length: lines }, (_, i) => i + 1),
    );
    assert.ok(records.some((record) => record.endsWith("[stderr] \u00ff\0\u0001x")));
    await suite.server.sprite.deleteService("loud");
  });

  test("needs: started first, circles and unknown ones refused, a needed one cannot be deleted", async () => {
    await put("db", `echo db; ${LOOP}`);
    await put("app", `echo app; ${LOOP}`, { needs: ["db"] });
    await assert.rejects(put("db", LOOP, { needs: ["app"] }), /status 400.*db → app → db/s);
    await assert.rejects(put("other", LOOP, { needs: ["nothing"] }), /status 400.*nothing/s);
    await assert.rejects(suite.server.sprite.deleteService("db"), /^Error: Service conflict.*app/s);
    assert.deepEqual(
      (await suite.server.sprite.listServices()).map(({ name }) => name),
      ["db", "app"],
    );
    await stop("app");
    await stop("db");
    await start("app");
    assert.equal((await state("db")).status, "running", "what it needs is started with it");
    await suite.server.sprite.deleteService("app");
    await suite.server.sprite.deleteService("db");
  });

  test("one HTTP port; it is started and waited for", async () => {
    const listener = "use IO::Socket::INET; sleep 1; my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 18080) or die; sleep 1000";
    await eventsOf(suite.server.sprite.createService("site", { cmd: "perl", args: ["-e", listener], httpPort: 18080 }, "0s"));
    await assert.rejects(
      suite.server.sprite.createService("second", { ...sh(LOOP), httpPort: 81 }, "0s"),
      /^Error: Service conflict.*another service already has an HTTP port configured/s,
    );
    await stop("site");
    const [first, again] = await Promise.all([
      suite.server.services.ensureHttpService(30_000),
      suite.server.services.ensureHttpService(30_000),
    ]);
    assert.deepEqual([first, again, (await state("site")).status], [18080, 18080, "running"]);
    await suite.server.sprite.createService("site", { ...sh(LOOP), httpPort: 18081 }, "0s");
    await assert.rejects(suite.server.services.ensureHttpService(100), { code: "timeout" });
    await suite.server.sprite.deleteService("site");
    assert.equal(await suite.server.services.ensureHttpService(), undefined);
  });

  test("replacing a definition restarts it; the same again does not", async () => {
    await put("same", LOOP);
    const { pid } = await state("same");
    await put("same", LOOP);
    assert.equal((await state("same")).pid, pid);
    await put("same", LOOP, { env: { A: "1" } });
    assert.notEqual((await state("same")).pid, pid);
    await suite.server.sprite.deleteService("same");
  });

  test("bad requests are refused and name what is wrong, never a value", async () => {
    const cases: [path: string, body: string, status: number, message: RegExp][] = [
      ["/services/x", "{", 400, /not JSON/],
      ["/services/x", '{"args":[]}', 400, /cmd/],
      ["/services/x", '{"cmd":"a","env":{"SECRET":7}}', 400, /env\.SECRET/],
      ["/services/x", '{"cmd":"a","dir":"relative"}', 400, /dir/],
      ["/services/x", '{"cmd":"a","http_port":70000}', 400, /http_port/],
      ["/services/x", '{"cmd":"a\\u0000b"}', 400, /cmd/],
      ["/services/.x", '{"cmd":"a"}', 400, /name/],
      ["/services/..%2f..%2fetc", '{"cmd":"a"}', 400, /name/],
      ["/services/x?duration=soon", '{"cmd":"a"}', 400, /duration/],
      ["/services/x", JSON.stringify({ cmd: "a", args: ["x".repeat(1_100_000)] }), 413, /exceeds/],
    ];
    for (const [path, body, status, message] of cases) {
      const answer = await request("PUT", path, body);
      assert.equal(answer.status, status, path);
      assert.match(((await answer.json()) as { message: string }).message, message, path);
    }
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/start"],
      ["POST", "/stop"],
      ["POST", "/restart"],
      ["GET", "/logs"],
    ] as const) {
      assert.equal((await request(method, `/services/nothing${path}`)).status, 404, `${method} ${path}`);
    }
    assert.equal((await request("GET", "/services/nothing/logs?lines=-1")).status, 400);
    assert.deepEqual(await suite.server.sprite.listServices(), []);
  });

  test("a null or missing field is as good as an empty one", async () => {
    const answer = await request("PUT", "/services/bare?duration=0", '{"cmd":"true","args":null,"env":null,"needs":null,"http_port":null}');
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "application/x-ndjson");
    await answer.text();
    assert.equal((await request("DELETE", "/services/bare")).status, 204);
  });

  test("a client that goes away leaves the service alone, and nothing behind", async () => {
    const abort = new AbortController();
    const answer = await fetch(`${suite.server.url}/services/left?duration=24h`, {
      method: "PUT",
      body: JSON.stringify(sh(`echo here; ${LOOP}`)),
      signal: abort.signal,
    });
    await answer.body?.getReader().read();
    abort.abort();
    assert.equal((await state("left")).status, "running");
    await suite.server.sprite.deleteService("left");
  });

  test("the next pilot finds the definitions; one that was stopped stays stopped; a damaged one is left out", async () => {
    await put("up", LOOP);
    await put("down", LOOP);
    await stop("down");
    const { pid } = await state("up");
    await suite.server.services.containerStopping();
    await suite.server.services.containerStopped();
    assert.equal(await inside("sh", "-c", `test -e /proc/${pid} || echo gone`), "gone\n");
    const definitions = join(suite.server.folder, "definitions");
    writeFileSync(join(definitions, "half.json"), '{"version":1,"na');
    writeFileSync(join(definitions, "stray.json"), readFileSync(join(definitions, "up.json")));
    {
      await using next = await startServicesServer(suite.helper.client, suite.container, suite.server.folder);
      const services = await next.sprite.listServices();
      assert.deepEqual(
        services.map(({ name, state }) => [name, state?.status]),
        [
          ["down", "stopped"],
          ["up", "running"],
        ],
      );
    }
    await suite.server.services.containerStarted();
    assert.equal((await state("up")).status, "running");
    await suite.server.sprite.deleteService("up");
    await suite.server.sprite.deleteService("down");
    assert.deepEqual(readdirSync(definitions).sort(), ["half.json", "stray.json"]);
  });

  test("while the container does not run, nothing is started and the client is told", async () => {
    await put("idle", LOOP);
    await stop("idle");
    suite.server.setState("stopped");
    const events = await eventsOf(suite.server.sprite.startService("idle", "0s"));
    suite.server.setState("running");
    assert.match(events.find(({ type }) => type === "error")?.data ?? "", /container does not run/);
    await becomes("idle", "running");
    await suite.server.sprite.deleteService("idle");
  });

  test("the end of the container ends the services, and they are started with the next one", async () => {
    const own = await startContainer();
    try {
      await using other = await startServicesServer(suite.helper.client, own);
      await eventsOf(other.sprite.createService("victim", sh(LOOP), "0s"));
      own.stop();
      await waitFor(async () => (await other.sprite.getService("victim")).state?.status !== "running", "its end");
      await other.services.containerStopped();
      assert.equal((await other.sprite.getService("victim")).state?.status, "stopped");
    } finally {
      await own[Symbol.asyncDispose]();
    }
  });
});
