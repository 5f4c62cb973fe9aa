import assert from "node:assert/strict";
import { test } from "node:test";
import { checkpoint, completed, messagesOf } from "./support/checkpoints.ts";
import { covers } from "./support/covers.ts";
import { outputOf, rootShell, run, shell, start } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 300_000 };
const ROW = 20;
const SHOWN = 5;

const suite = useDaemon({ sprites: ["box"] });
const box = () => suite.sprite("box");
const restore = (id: string) => completed(box().restoreCheckpoint(id));

async function undo(): Promise<void> {
  const response = await suite.daemon.fetch("/v1/sprites/box/restore/undo", { method: "POST" });
  assert.match(await response.text(), /"type":"complete"/);
}

/** Waits until checkpoints have appeared inside, or gone. */
const shown = (ids: readonly string[]): Promise<void> =>
  until(`inside are ${ids}`, async () => {
    const listed = (await outputOf(box(), "ls /.sprite/checkpoints")).split("\n").filter((name) => name !== "");
    return listed.sort().join() === [...ids].sort().join();
  });

covers("POST /v1/sprites/{name}/checkpoint", "GET /v1/sprites/{name}/checkpoints", "GET /v1/sprites/{name}/checkpoints/{id}");
covers("DELETE /v1/sprites/{name}/checkpoints/{id}", "POST /v1/sprites/{name}/checkpoints/{id}/restore");
covers("POST /v1/sprites/{name}/restore/undo");

test("a checkpoint: its messages, its place in the list, its tree inside", LIMIT, async () => {
  await outputOf(box(), "echo first > ~/note && rm -f ~/.profile && sudo rm /etc/motd");
  const messages = await messagesOf(box().createCheckpoint("the first"));
  assert.deepEqual(
    messages.map(({ type, data }) => [type, data]),
    [
      ["info", "Creating checkpoint..."],
      ["info", "Saving filesystem state..."],
      ["info", "Checkpoint created successfully"],
      ["info", "  ID: v1"],
      ["info", "  Path: checkpoints/v1"],
      ["complete", "Checkpoint v1 created successfully"],
    ],
  );
  await outputOf(box(), "echo second > ~/note");
  const [current, first] = await box().listCheckpoints();
  assert.deepEqual([current?.id, first?.id, first?.comment], ["Current", "v1", "the first"]);
  assert.equal((await box().getCheckpoint("v1")).comment, "the first");
  await assert.rejects(box().getCheckpoint("v9"), /not found/i);
  await shown(["v1"]);
  assert.equal(await outputOf(box(), "cat /.sprite/checkpoints/v1/home/sprite/note ~/note"), "first\nsecond");
  assert.equal(
    await outputOf(box(), "ls -d /.sprite/checkpoints/v1/usr/bin/env; ls /.sprite/checkpoints/v1/etc/motd 2>&1 | tail -c 10"),
    "/.sprite/checkpoints/v1/usr/bin/env\ndirectory",
  );
});

test("the checkpoints inside cannot be changed, by root neither", LIMIT, async () => {
  for (const script of [
    "touch /.sprite/checkpoints/v1/x",
    "touch /.sprite/checkpoints/x",
    "mkdir /.sprite/checkpoints/v2",
    "mount -o remount,rw /.sprite/checkpoints/v1 && touch /.sprite/checkpoints/v1/x",
    "mount -o remount,bind,rw /.sprite/checkpoints && touch /.sprite/checkpoints/x",
    "rm -rf /.sprite/checkpoints/v1/etc",
  ]) {
    assert.notEqual((await rootShell(box(), script)).code, 0, script);
  }
  assert.equal(await outputOf(box(), "cat /.sprite/checkpoints/v1/home/sprite/note"), "first");
});

test("restore: files are as they were, sessions end with 137, the kernel runs on; undo, and redo", LIMIT, async () => {
  const boot = await outputOf(box(), "cat /proc/sys/kernel/random/boot_id");
  const session = await start(box(), "sleep", ["1000"]);
  const { undoId } = await restore("v1");
  assert.equal(await session.exited, 137);
  assert.match(session.stderr().toString(), /^hob: the sprite's container has stopped/);
  assert.equal(await outputOf(box(), "cat ~/note"), "first");
  assert.match(undoId ?? "", /^auto-\d+$/);
  await undo();
  assert.equal(await outputOf(box(), "cat ~/note"), "second");
  await undo();
  assert.equal(await outputOf(box(), "cat ~/note"), "first");
  assert.equal(await outputOf(box(), "cat /proc/sys/kernel/random/boot_id"), boot);
  const listed = await suite.daemon.fetch("/v1/sprites/box/checkpoints?includeAuto=true");
  const autos = ((await listed.json()) as { id: string; is_auto: boolean }[]).filter((one) => one.is_auto);
  assert.equal(autos.length, 3);
  assert.equal((await box().listCheckpoints()).length, 2, "automatic ones are not listed unless asked for");
});

test("a sprite without /usr can be restored, and its ruin too", LIMIT, async () => {
  assert.equal((await rootShell(box(), "rm -rf /usr/bin /usr/sbin /usr/lib/*-linux-gnu /.pilot 2>/dev/null; exit 0")).code, 0);
  await assert.rejects(outputOf(box(), "true"));
  await restore("v1");
  assert.equal(await outputOf(box(), "cat ~/note && /usr/bin/env true && echo fine"), "first\nfine");
  await undo();
  assert.equal((await run(box(), "/usr/bin/env", ["true"])).code, 127, "the ruin is back");
  await restore("v1");
  assert.equal(await outputOf(box(), "echo fine"), "fine");
});

test("after a bounce there are checkpoints, old and new", LIMIT, async () => {
  const { code, stderr } = await suite.daemon.hob("bounce", "box");
  assert.equal(code, 0, stderr);
  await shown(["v1"]);
  assert.equal(await outputOf(box(), "cat /.sprite/checkpoints/v1/home/sprite/note"), "first");
  assert.equal(await checkpoint(box()), "v2");
  await shown(["v1", "v2"]);
});

test("many in a row; the newest five are inside; a file that is held open does not keep one from being deleted", LIMIT, async () => {
  const holder = await start(box(), "sh", ["-c", "exec 3</.sprite/checkpoints/v1/home/sprite/note; cat; exec cat <&3"]);
  const ids: string[] = [];
  for (let i = 0; i < ROW; i++) {
    await outputOf(box(), `echo ${i} > ~/row`);
    ids.push(await checkpoint(box(), `row ${i}`));
  }
  assert.deepEqual(ids.slice(0, 2), ["v3", "v4"]);
  await shown(ids.slice(-SHOWN));
  assert.equal(
    await outputOf(
      box(),
      `cat ${ids
        .slice(-SHOWN)
        .map((id) => `/.sprite/checkpoints/${id}/home/sprite/row`)
        .join(" ")}`,
    ),
    "15\n16\n17\n18\n19",
  );
  await restore(ids[3] ?? "");
  assert.equal(await outputOf(box(), "cat ~/row"), "3");
  for (const id of ["v1", "v2", ...ids]) {
    assert.equal((await suite.daemon.fetch(`/v1/sprites/box/checkpoints/${id}`, { method: "DELETE" })).status, 204, id);
  }
  assert.equal((await suite.daemon.fetch("/v1/sprites/box/checkpoints/Current", { method: "DELETE" })).status, 409);
  assert.equal((await suite.daemon.fetch("/v1/sprites/box/checkpoints/v1", { method: "DELETE" })).status, 404);
  await shown([]);
  assert.deepEqual(
    (await box().listCheckpoints()).map(({ id }) => id),
    ["Current"],
  );
  holder.command.kill("SIGKILL");
});

const WRITER = `
import sqlite3, sys
db = sqlite3.connect("/home/sprite/app.db", isolation_level=None)
db.execute("PRAGMA journal_mode=" + sys.argv[1])
db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, pad BLOB)")
while True:
    db.execute("BEGIN")
    db.execute("INSERT INTO t (pad) VALUES (randomblob(3000))")
    db.execute("COMMIT")
    print(db.execute("SELECT max(n) FROM t").fetchone()[0], flush=True)
`;

test("a database under a writer is whole in each checkpoint, with all that was committed before", LIMIT, async () => {
  await outputOf(box(), `cat > ~/writer.py <<'END'\n${WRITER}\nEND`);
  const writer = await start(box(), "python3", ["/home/sprite/writer.py", "WAL"]);
  const committed = () => Number(writer.stdout().toString().trimEnd().split("\n").at(-1));
  const taken: { id: string; rows: number }[] = [];
  for (let i = 0; i < 4; i++) {
    const before = committed() || 0;
    await until("the writer goes on", () => committed() > before + 5, 30_000);
    const rows = committed();
    taken.push({ id: await checkpoint(box()), rows });
  }
  writer.command.kill("SIGKILL");
  const check = 'sqlite3 DB "PRAGMA integrity_check; SELECT max(n) FROM t"';
  const verify = (answer: string, rows: number) => {
    const [integrity, found] = answer.split("\n");
    assert.equal(integrity, "ok");
    assert.ok(Number(found) >= rows, `${found} rows, ${rows} were committed`);
  };
  await shown(taken.map(({ id }) => id));
  for (const { id, rows } of taken) {
    verify(
      await outputOf(
        box(),
        `rm -rf /tmp/db && mkdir /tmp/db && cp /.sprite/checkpoints/${id}/home/sprite/app.db* /tmp/db/ && ${check.replace("DB", "/tmp/db/app.db")}`,
      ),
      rows,
    );
  }
  const [, second] = taken;
  assert.ok(second);
  await restore(second.id);
  verify(await outputOf(box(), check.replace("DB", "~/app.db")), second.rows);
});

test("a full volume: ENOSPC inside; the platform works; deleting makes room", LIMIT, async () => {
  const fill = "fallocate -l $(($(stat -f -c '%a*%S' ~) - 8388608)) ~/big && dd if=/dev/zero of=~/rest bs=64k";
  const full = await shell(box(), fill.replaceAll("~", "/home/sprite"));
  assert.equal(full.code, 1);
  assert.match(full.stderr, /No space left on device/);
  assert.match((await shell(box(), "head -c 1000000 /dev/zero > /home/sprite/more")).stderr, /No space left on device/);
  const id = await checkpoint(box(), "full");
  const { code } = await suite.daemon.hob("bounce", "box");
  assert.equal(code, 0);
  await restore(id);
  assert.match((await shell(box(), "head -c 1000000 /dev/zero > /home/sprite/more")).stderr, /No space left on device/);
  await outputOf(box(), "rm ~/big ~/rest ~/more && sync && head -c 1000000 /dev/zero > ~/more && echo room");
});

test("bad requests are answered in words", LIMIT, async () => {
  const post = (path: string, body?: string) =>
    suite.daemon.fetch(`/v1/sprites/box/${path}`, { method: "POST", ...(body === undefined ? {} : { body }) });
  for (const body of ["{", "[]", '{"comment":5}', JSON.stringify({ comment: "x".repeat(5000) })]) {
    assert.equal((await post("checkpoint", body)).status, 400, body.slice(0, 20));
  }
  for (const id of ["v999", "../x", "auto-0", "%2e%2e"]) assert.equal((await post(`checkpoints/${id}/restore`)).status, 404, id);
  assert.equal((await post("checkpoints/Current/restore")).status, 409);
  assert.equal((await suite.daemon.fetch("/v1/sprites/box/checkpoints?includeAuto=perhaps")).status, 400);
});

test("the command line", LIMIT, async () => {
  const hob = async (...args: string[]) => {
    const { code, stdout, stderr } = await suite.daemon.hob(...args);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  await outputOf(box(), "echo cli > ~/note");
  const { id } = JSON.parse(await hob("checkpoint", "create", "box", "--comment", "by hand", "--json")) as { id: string };
  assert.match(await hob("checkpoint", "list", "box"), new RegExp(`^${id} .*by hand$`, "m"));
  assert.match(await hob("checkpoint", "info", "box", id), /^comment +by hand$/m);
  await outputOf(box(), "echo later > ~/note");
  assert.match(await hob("restore", "box", id), new RegExp(`^Restored box to ${id} in`));
  assert.equal(await outputOf(box(), "cat ~/note"), "cli");
  assert.match(await hob("undo", "box"), /^Restored box to auto-/);
  assert.equal(await outputOf(box(), "cat ~/note"), "later");
  assert.match(await hob("checkpoint", "delete", "box", id), /^Deleted/);
  const missing = await suite.daemon.hob("restore", "box", id);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /checkpoint not found/);
});
