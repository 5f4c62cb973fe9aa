import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
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
  for (const word of ["info", "get"])
    assert.match((await run("checkpoint", word, "web", "v2")).stdout, /^id +v2\n[\s\S]*^derives from +v1$/m);
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
    [
      "GET /checkpoints/v2",
      "GET /checkpoints/v2",
      "DELETE /checkpoints/v2",
      "POST /checkpoints/v1/restore",
      "POST /checkpoints/v1/restore",
      "POST /restore/undo",
    ],
  );
});

const STATE = { kind: "file", size: 4, mode: "0644", uid: 0, gid: 0, mtime: CURRENT.create_time };
const CHANGED = { type: "entry", path: "/etc/x", change: "changed", before: STATE, after: { ...STATE, mode: "0600" } };

test("diff shows each path, lines of text, and where it was cut off", async () => {
  const lines = [
    // The last line of a hunk may be an empty one that both have.
    { ...CHANGED, text: "--- a\n+++ b\n-one\n+t\x1bwo\n \n" },
    { type: "entry", path: "/evil\nname", change: "added", before: null, after: STATE },
  ];
  const stream = (...more: object[]) => [...lines, ...more].map((line) => `${JSON.stringify(line)}\n`).join("");
  answer(stream({ type: "complete", count: 2 }));
  const { stdout } = await run("checkpoint", "diff", "web", "v1", "current", "--text", "--path", "/etc");
  assert.equal(stdout, "~ /etc/x  0644 -> 0600\n--- a\n+++ b\n-one\n+t wo\n \n+ /evil name  4 bytes\n");
  assert.equal(daemon.requests[0]?.url.search, "?from=v1&path=%2Fetc&text=true");
  const json = await run("checkpoint", "diff", "web", "v1", "v2", "--json");
  assert.equal(JSON.parse(json.stdout.split("\n")[1] ?? "").change, "added");
  assert.equal(daemon.requests[1]?.url.search, "?from=v1&to=v2");
  answer(stream());
  const cut = await run("checkpoint", "diff", "web", "v1");
  assert.equal(cut.status, 1);
  assert.match(cut.stderr, /ended before all was told/);
});

test("diff shows extended attributes that differ", async () => {
  const of = (text: string | Buffer) => Buffer.from(text).toString("base64");
  const attributes = [
    { name: "user.note", before: of("then"), after: of('n"ow') },
    { name: "security.capability", before: null, after: of(Buffer.from([1, 0, 0, 2])) },
    { name: "user.\x1bevil", before: of("\x1b[2J"), after: of("x".repeat(65)) },
  ];
  answer(`${JSON.stringify({ ...CHANGED, after: STATE, attributes })}\n${JSON.stringify({ type: "complete", count: 1 })}\n`);
  const { stdout, stderr } = await run("checkpoint", "diff", "web", "v1");
  assert.equal(
    stdout,
    '~ /etc/x\n  user.note: "then" -> "n\\"ow"\n  security.capability: none -> 0x01000002\n  user. evil: 0x1b5b324a -> 65 bytes\n',
  );
  assert.equal(stderr, "Comparing v1 of web with the present ...\n");
});

test("diff shows on a terminal how far it is, and Ctrl+C ends it on both sides", async () => {
  const gone = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    assert.match(request.url ?? "", /progress=true/);
    response.once("close", () => gone.resolve());
    response.write(`${JSON.stringify({ type: "progress", paths: 12, bytes: 3 * 1024 ** 2 })}\n${JSON.stringify(CHANGED)}\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    // Where CI is set nobody watches, and there is no spinner.
    using terminal = new TestTerminal(["env", "-u", "CI", HOB, "--url", url, "--token", "t", "checkpoint", "diff", "web", "v1"], home.env);
    await terminal.waitFor(/Comparing v1 of web with the present: 12 paths looked at, 1 differ, 3\.0 MiB of large files read/);
    assert.match(terminal.output, /~.* \/etc\/x/);
    const from = terminal.output.length;
    terminal.type("\x03");
    await terminal.exited;
    await gone.promise;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the terminal gets its cursor back
    assert.match(terminal.output.slice(from), /\x1b\[\?25h/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("diff draws nothing on the terminal of a pager", async () => {
  answer(`${JSON.stringify(CHANGED)}\n${JSON.stringify({ type: "complete", count: 1 })}\n`);
  using terminal = new TestTerminal(["sh", "-c", '"$0" checkpoint diff web v1 | cat', HOB], home.env);
  await terminal.exited;
  assert.deepEqual(terminal.output.trim().split("\r\n").sort(), ["Comparing v1 of web with the present ...", "~ /etc/x  0644 -> 0600"]);
  assert.deepEqual(
    daemon.requests.map(({ url }) => url.search),
    ["?from=v1"],
  );
});

test("a restore that is interrupted is said to go on, and how to look at it", async () => {
  daemon.faults.silent = true;
  for (const [args, words] of [
    [["restore", "web", "v1"], /goes on in web if it had begun: 'hob checkpoint list web' shows/],
    [["restore", "web", "v1", "--path", "/etc"], /goes on in web if it had begun: 'hob checkpoint diff web v1 --path \/etc' finds/],
    [["undo", "web"], /goes on in web if it had begun: 'hob checkpoint list web' shows/],
  ] as const) {
    const child = home.start(args);
    const end = ended(child);
    child.stderr.once("data", () => child.kill("SIGINT"));
    const { signal, stderr, stdout } = await end;
    assert.deepEqual([signal, stdout.toString()], ["SIGINT", ""]);
    assert.match(stderr, words);
  }
});

test("files and cat read a checkpoint, and restore --path puts a path back", async () => {
  const entry = {
    name: "hosts",
    path: "/etc/hosts",
    type: "file",
    size: 9,
    mode: "0644",
    modTime: CURRENT.create_time,
    isDir: false,
    uid: 0,
    gid: 0,
  };
  answer({ path: "/etc", entries: [entry], count: 1 });
  for (const name of ["ls", "files"]) assert.match((await run("checkpoint", name, "web@v3:/etc")).stdout, /^0644 +0:0 +9 .* hosts$/m);
  assert.match((await run("checkpoint", "ls", "web@v3")).stdout, / hosts$/m, "the root, when no path is named");
  answer("the content");
  assert.equal((await run("checkpoint", "cat", "web@v3:/etc/hosts")).stdout, "the content");
  answer({ id: "v3", path: "/etc/nginx", count: 2, bytes: 2048, replaced: true });
  assert.equal(
    (await run("restore", "web", "v3", "--path", "/etc/nginx")).stdout,
    "Restored /etc/nginx of web to v3: 2 entries, 2.0 KiB\n",
  );
  answer({ id: "v3", path: "/etc/nginx", count: 2, bytes: 2048, replaced: true, leftOut: ["/etc/nginx/null", "/etc/nginx/\x1btty"] });
  assert.match((await run("restore", "web", "v3", "--path", "/etc/nginx")).stderr, /Left out.*: \/etc\/nginx\/null, \/etc\/nginx\/ tty\n/);
  assert.deepEqual(
    daemon.requests.map(
      ({ method, url, body }) => `${method} ${url.pathname.replace("/v1/sprites/web/checkpoints", "")}${url.search} ${body}`,
    ),
    [
      "GET /v3/files?path=%2Fetc ",
      "GET /v3/files?path=%2Fetc ",
      "GET /v3/files?path=%2F ",
      "GET /v3/content?path=%2Fetc%2Fhosts ",
      'POST /v3/restore-path {"path":"/etc/nginx"}',
      'POST /v3/restore-path {"path":"/etc/nginx"}',
    ],
  );
  for (const place of ["web:/etc", "web@v3:", "@v3"]) assert.equal((await run("checkpoint", "ls", place)).status, 2, place);
  for (const place of ["web:/etc", "web@v3", "@v3:/etc"]) assert.equal((await run("checkpoint", "cat", place)).status, 2, place);
});

test("a reader of a file that goes away ends cat quietly", async () => {
  answer("x".repeat(4 << 20));
  const child = home.start(["checkpoint", "cat", "web@v3:/file"]);
  const end = ended(child);
  child.stdout.once("data", () => child.stdout.destroy());
  const { status, stderr } = await end;
  assert.deepEqual([status, stderr], [141, ""]);
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
  assert.match((await run("restore", "--help")).stdout, /Examples:\n {2}\$ hob restore web v3/);
  assert.match(
    (await run("__complete", "--", "checkpoint", "")).stdout,
    /^create\t.*\nlist\t.*\ninfo\t.*\ndelete\t.*\ndiff\t.*\nfiles\t.*\ncat\t.*\nrestore\t/,
  );
  daemon.add("web");
  assert.match((await run("__complete", "--", "checkpoint", "info", "")).stdout, /^web\t/);
  assert.match((await run("__complete", "--", "undo", "")).stdout, /^web\t/);
});
