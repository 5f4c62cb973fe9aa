import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeEach, test } from "node:test";
import { errorBody } from "../../client/test/support/test-daemon.ts";
import { ended, HOB, startHob } from "./support/run-hob.ts";
import { TestTerminal } from "./support/terminal.ts";

const { daemon, home } = await startHob();
beforeEach(() => {
  daemon.faults = {};
  daemon.requests.length = 0;
});

const answer = (body: unknown, status = 200) => {
  daemon.faults.answer = { status, body: typeof body === "string" ? body : JSON.stringify(body) };
};
const run = async (args: string[], input?: string) => {
  const { status, stdout, stderr } = await home.run(args, input === undefined ? {} : { input });
  return { status, stdout: stdout.toString(), stderr };
};
const seen = () => daemon.requests.map(({ method, url, body }) => `${method} ${url.pathname}${url.search} ${body}`.trim());
const STATUS = { enabled: true, durable_at: null, durable_lag_seconds: 0, uploading: false, pending_checkpoints: [], error: null };
const SPRITE = { name: "copy", url: "http://copy.localhost" };
const REPORT = { sprites: 1, states: 3, pages: 2, packs: 1, chunks: 9, bytesRead: 2048, damage: [], warnings: [] };

test("sync says when all is durable, and fails when the store does not answer", async () => {
  answer(STATUS);
  const done = await run(["sync", "web"]);
  assert.match(done.stdout, /^Durable: all that web had written is in the object store, after /);
  assert.deepEqual(JSON.parse((await run(["sync", "-s", "web", "--json"])).stdout), STATUS);
  assert.deepEqual(seen(), ["POST /v1/sprites/web/sync", "POST /v1/sprites/web/sync"]);
  answer(errorBody("store_unavailable", "sync: the store is away", "look at it"), 503);
  const failed = await run(["sync", "web"]);
  assert.deepEqual([failed.status, failed.stdout], [1, ""]);
  assert.match(failed.stderr, /hob: sync: the store is away\nhint: look at it/);
});

test("fork takes the present state or a checkpoint", async () => {
  answer(SPRITE, 201);
  assert.match((await run(["fork", "web", "copy"])).stdout, /^Forked web as copy in .*\nhttp:\/\/copy\.localhost\n$/);
  assert.match((await run(["fork", "-s", "web@v3", "copy"])).stdout, /^Forked web@v3 as copy/);
  assert.deepEqual(seen(), ['POST /v1/sprites/web/fork {"name":"copy"}', 'POST /v1/sprites/web/fork {"name":"copy","checkpoint":"v3"}']);
  for (const args of [["fork"], ["fork", "web"], ["fork", "web@", "copy"], ["fork", "web", "copy", "more"]]) {
    assert.equal((await run(args)).status, 2, args.join(" "));
  }
});

test("export writes the bytes as they are, says the rest beside them, and wants no terminal", async () => {
  answer("\u0000bytes\n");
  const { status, stdout, stderr } = await run(["export", "web"]);
  assert.deepEqual([status, stdout], [0, "\u0000bytes\n"]);
  assert.match(stderr, /Exported web: /);
  using terminal = new TestTerminal([HOB, "export", "web"], home.env);
  await terminal.waitFor(/standard output is a terminal/);
  assert.equal(await terminal.exited, 2);
});

test("export to what has no room says so; who leaves from behind a pipe ends it without a word", async () => {
  answer("x".repeat(5_000_000));
  const inShell = (script: string) => {
    const child = spawn("sh", ["-c", script, HOB], { env: home.env });
    child.stdin.end();
    return ended(child);
  };
  const full = await inShell('"$0" export web > /dev/full');
  assert.equal(full.status, 1);
  assert.match(
    full.stderr,
    /^Exporting web \.\.\.\nhob: write to standard output: there is no room for it\nhint: what is there so far is not whole/,
  );
  const left = await inShell('{ "$0" export web; echo "status $?" >&2; } | head -c 5');
  assert.deepEqual([left.stdout.toString(), left.stderr], ["xxxxx", "Exporting web ...\nstatus 141\n"]);
});

test("an export that the daemon breaks off is no success, and says that it is not whole", async () => {
  const server = createServer((_request, response) => {
    response.write("half", () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const env = { HOB_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, HOB_TOKEN: "t" };
    const { status, stdout, stderr } = await home.run(["export", "web"], { env });
    assert.deepEqual([status, stdout.toString()], [1, "half"]);
    assert.match(stderr, /\nhob: export web: the daemon broke off in the middle\nhint: what is there so far is not whole/);
  } finally {
    server.close();
  }
});

test("import sends a file or standard input", async () => {
  answer(SPRITE, 201);
  const file = join(home.path, "web.hob");
  writeFileSync(file, "content");
  assert.match((await run(["import", file, "copy", "--storage-gb", "20"])).stdout, /^Imported copy: /);
  assert.equal((await run(["import", "-", "copy"], "piped")).status, 0);
  assert.deepEqual(seen(), ["POST /v1/storage/import?name=copy&storage_gb=20 content", "POST /v1/storage/import?name=copy piped"]);
  const missing = await run(["import", join(home.path, "none"), "copy"]);
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /none: no such file/);
  assert.match((await run(["import", home.path, "copy"])).stderr, /it is a folder/);
  answer(errorBody("data_damaged", "import: record 3 is damaged"), 400);
  assert.match((await run(["import", file, "copy"])).stderr, /hob: import: record 3 is damaged/);
});

test("fsck ends with 1 when something is damaged, and names checkpoint and blocks", async () => {
  answer(REPORT);
  assert.match((await run(["fsck"])).stdout, /^Clean: 1 sprite, 3 states, 9 chunks, 2\.0 KiB read\n$/);
  const blocks = [
    { first: 7, count: 1 },
    { first: 9, count: 3 },
  ];
  answer({ ...REPORT, damage: [{ sprite: "id1", checkpoint: "v2", problem: "pack \u001b[2Jgone", blocks }] });
  const damaged = await run(["fsck", "web"]);
  assert.equal(damaged.status, 1);
  assert.match(damaged.stdout, /^damaged {2}sprite id1, checkpoint v2: pack {2}\[2Jgone \(blocks 7, 9-11\)\n1 damaged: /);
  const json = await run(["fsck", "web", "--json"]);
  assert.equal(json.status, 1);
  assert.equal(JSON.parse(json.stdout).damage[0].checkpoint, "v2");
  const posts = seen().filter((line) => line.startsWith("POST"));
  assert.deepEqual([...new Set(posts)], ["POST /v1/storage/fsck", "POST /v1/sprites/web/fsck"]);
});

test("fsck calls a sprite by its name, where it has one here", async () => {
  const { id } = daemon.add("web");
  const problem = "orgs/hob/packs/a does not match its checksum";
  const damage = ["other", id].map((sprite) => ({ sprite, checkpoint: null, problem: "gone", blocks: [] }));
  daemon.faults.answers = {
    "POST /v1/storage/fsck": JSON.stringify({ ...REPORT, damage, warnings: [{ key: "orgs/hob/packs/a", problem }] }),
  };
  assert.equal(
    (await run(["fsck"])).stdout.split("\n").slice(0, 3).join("\n"),
    `damaged  sprite other, its newest state: gone\ndamaged  sprite web, its newest state: gone\nwarning  ${problem}`,
  );
});

test("gc with a short grace that the daemon refuses says why, and what to do", async () => {
  answer(errorBody("conflict", "gc with a grace of 0 s: web may be uploading", "put what runs to sleep before"), 409);
  const refused = await run(["gc", "--grace", "0s"]);
  assert.deepEqual([refused.status, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /hob: gc with a grace of 0 s: web may be uploading\nhint: put what runs to sleep before/);
  assert.deepEqual(seen(), ['POST /v1/storage/gc {"dry_run":false,"grace_seconds":0}']);
});

test("fsck --repair repairs one sprite, which must be named", async () => {
  answer(REPORT);
  assert.match((await run(["fsck", "web", "--repair"])).stdout, /^Clean: /);
  const request = daemon.requests.at(-1);
  assert.deepEqual([request?.url.pathname, request?.url.search], ["/v1/sprites/web/fsck", "?repair=true"]);
  const count = daemon.requests.length;
  const refused = await run(["fsck", "--repair"]);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /no sprite named to be repaired/);
  assert.equal(daemon.requests.length, count);
});

test("gc says because of whose damage nothing was removed, and what to do", async () => {
  const counts = { sprites: 1, reachablePacks: 1, reachablePages: 1, deletedPacks: 0, deletedPages: 0, deletedDocuments: 0 };
  const base = { key: "orgs/hob/maps/a", sprite: "sprite-1", name: "web", checkpoint: null, isBase: true };
  const states = [null, "v1", "v2"].map((checkpoint) => ({ ...base, key: "orgs/hob/maps/b", name: "db", checkpoint, isBase: false }));
  const elsewhere = { ...base, key: "orgs/hob/maps/b", sprite: "sprite-3", name: null, checkpoint: "v1", isBase: false };
  const damaged = ["orgs/hob/maps/a", "orgs/hob/maps/b"];
  answer({ ...counts, deletedBytes: 0, keptYoung: 0, damaged, holders: [base, ...states, elsewhere] });
  const { status, stdout } = await run(["gc"]);
  assert.equal(status, 1);
  assert.deepEqual(stdout.split("\n").slice(0, -1), [
    "damaged  orgs/hob/maps/a",
    "  of sprite web: what its machine reads through",
    "    no state needs it: 'hob fork web NEW', then 'hob destroy web'",
    "damaged  orgs/hob/maps/b",
    "  of sprite db: its newest state; checkpoints v1, v2",
    "    'hob fsck db --repair' brings back what its machine has; what stays damaged goes with its checkpoints, or 'hob destroy db'",
    "  of sprite sprite-3: checkpoints v1",
    "    another host has this sprite: repair or destroy it there",
    "No pack and no page was removed because of that, of no sprite: any of them may be what a damaged page names.",
    "Removed 0.0 KiB in 0 packs, 0 pages and 0 documents",
  ]);
});

test("gc says what it removed, or would", async () => {
  const counts = { sprites: 1, reachablePacks: 1, reachablePages: 1, deletedPacks: 2, deletedPages: 3, deletedDocuments: 0 };
  answer({ ...counts, deletedBytes: 4096, keptYoung: 1, damaged: [], holders: [] });
  const dry = await run(["gc", "--dry-run", "--grace", "2h"]);
  assert.equal(dry.stdout, "Would remove 4.0 KiB in 2 packs, 3 pages and 0 documents\n");
  assert.match(dry.stderr, /1 more/);
  assert.match((await run(["gc"])).stdout, /^Removed 4\.0 KiB/);
  assert.deepEqual(seen(), ['POST /v1/storage/gc {"dry_run":true,"grace_seconds":7200}', 'POST /v1/storage/gc {"dry_run":false}']);
  assert.equal((await run(["gc", "--grace", "soon"])).status, 2);
});

test("info does not ask a sprite that sleeps", async () => {
  const sprite = daemon.add("web");
  assert.equal((await run(["info", "web"])).status, 0);
  assert.ok(daemon.requests.some(({ url }) => url.pathname === "/v1/sprites/web/storage"));
  daemon.requests.length = 0;
  sprite.status = "warm";
  assert.equal((await run(["status", "web"])).status, 0);
  assert.ok(!daemon.requests.some(({ url }) => url.pathname === "/v1/sprites/web/storage"));
});

test("help and completion know them", async () => {
  assert.match((await run(["fork", "--help"])).stdout, /Examples:\n {2}\$ hob fork web copy/);
  daemon.add("web");
  for (const name of ["sync", "fork", "export", "fsck"]) assert.match((await run(["__complete", "--", name, ""])).stdout, /^web\t/m, name);
  assert.match((await run(["__complete", "--", "gc", "--d"])).stdout, /^--dry-run\t/);
});
