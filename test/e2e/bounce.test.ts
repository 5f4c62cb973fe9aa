import assert from "node:assert/strict";
import { test } from "node:test";
import type { BounceResponse } from "@hob/protocol";
import { covers } from "./support/covers.ts";
import { outputOf, start } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";

const LIMIT = { timeout: 60_000 };

const suite = useDaemon({ sprites: ["box"] });
const box = () => suite.sprite("box");

async function bounce(): Promise<BounceResponse> {
  const { code, stdout, stderr } = await suite.daemon.hob("bounce", "box", "--json");
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as BounceResponse;
}

test("the container is new; kernel, pilot and files stay", LIMIT, async () => {
  covers("POST /v1/sprites/{name}/bounce");
  const seen = "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f1 /proc/uptime; stat -c %Z /proc/1";
  await outputOf(box(), "echo home > ~/note; echo root | sudo tee /srv/note; echo tmp > /tmp/note; (setsid sleep 1000 >/dev/null 2>&1 &)");
  const [bootBefore, uptimeBefore, startedBefore] = (await outputOf(box(), seen)).split("\n");
  const { uptimeMs } = await bounce();
  const [bootAfter, uptimeAfter, startedAfter] = (await outputOf(box(), seen)).split("\n");
  assert.equal(bootAfter, bootBefore, "the same kernel");
  assert.ok(uptimeMs > Number(uptimeBefore) * 1000 && Number(uptimeAfter) * 1000 > uptimeMs, "its uptime goes on");
  assert.notEqual(startedAfter, startedBefore, "a new PID 1");
  assert.equal(await outputOf(box(), "cat ~/note /srv/note /tmp/note"), "home\nroot\ntmp");
  assert.equal(await outputOf(box(), "pgrep -x sleep; true"), "", "its processes are gone");
});

test("running sessions end with 137 and say why; a new command works", LIMIT, async () => {
  const plain = await start(box(), "sleep", ["1000"]);
  const terminal = await start(box(), "sleep", ["1000"], { tty: true });
  await bounce();
  assert.equal(await plain.exited, 137);
  assert.match(plain.stderr().toString(), /^hob: the sprite's container has stopped/);
  assert.equal(await terminal.exited, 1, "on a terminal this SDK knows no more");
  assert.match(terminal.stdout().toString(), /hob: the sprite's container has stopped/);
  assert.equal(await outputOf(box(), "echo again"), "again");
});

test("three in a row, by the same pilot", LIMIT, async () => {
  const answers = [await bounce(), await bounce(), await bounce()];
  assert.equal(new Set(answers.map(({ pilotPid }) => pilotPid)).size, 1);
  assert.ok(answers.every(({ steps, totalMs }) => steps.length > 0 && totalMs > 0));
  assert.equal(
    await outputOf(
      box(),
      "cat ~/note; ip -o -4 addr show dev spr0 | grep -c 10.0.0.1/24; ping -c 1 -W 5 -q 10.0.0.2 >/dev/null && echo up",
    ),
    "home\n1\nup",
  );
});

test("bounces asked for at once happen one after the other", LIMIT, async () => {
  const answers = await Promise.all([1, 2, 3].map(() => suite.daemon.fetch("/v1/sprites/box/bounce", { method: "POST" })));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  );
  assert.equal(await outputOf(box(), "echo up"), "up");
});

test("the yardsticks of npm run bench: crun in the VM, and plain bytes out of it", LIMIT, async () => {
  covers("POST /v1/sprites/{name}/diagnostics/crun-exec", "GET /v1/sprites/{name}/diagnostics/stream");
  const at = "/v1/sprites/box/diagnostics";
  const { ms } = (await (await suite.daemon.fetch(`${at}/crun-exec`, { method: "POST" })).json()) as { ms: number };
  assert.ok(ms > 0);
  const zeros = Buffer.from(await (await suite.daemon.fetch(`${at}/stream?bytes=100000`)).arrayBuffer());
  assert.ok(zeros.equals(Buffer.alloc(100_000)));
  for (const bytes of ["-1", "x", String(2 ** 31)])
    assert.equal((await suite.daemon.fetch(`${at}/stream?bytes=${bytes}`)).status, 400, bytes);
});

test("the yardstick of file access: a file on the disk below the volume", LIMIT, async () => {
  covers("POST /v1/sprites/{name}/diagnostics/disk");
  const meter = (body: object) =>
    suite.daemon.fetch("/v1/sprites/box/diagnostics/disk", { method: "POST", body: JSON.stringify({ size_mb: 4, ...body }) });
  const run = async (pattern: string, operations: number) => {
    const answer = (await (await meter({ pattern, operations })).json()) as { bytes: number; operations: number; ms: number };
    assert.ok(answer.ms > 0, pattern);
    return answer;
  };
  assert.equal((await run("fill", 1)).bytes, 4 * 1024 * 1024);
  assert.equal((await run("sequential-read", 1)).operations, 4);
  for (const pattern of ["random-read", "random-write", "random-fsync", "random-fdatasync"])
    assert.equal((await run(pattern, 5)).bytes, 5 * 4096, pattern);
  assert.equal((await meter({ pattern: "remove" })).status, 200);
  for (const wrong of [{ pattern: "x" }, { pattern: "fill", size_mb: 0 }, { pattern: "fill", size_mb: 1e6 }])
    assert.equal((await meter(wrong)).status, 400);
});
