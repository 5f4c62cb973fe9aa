import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Sprite } from "@hob/protocol";
import { completed } from "./support/checkpoints.ts";
import { covers } from "./support/covers.ts";
import { outputOf } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";
import { until } from "./support/wait.ts";

const LIMIT = { timeout: 300_000 };

/** For as long a reader is kept too, and it must live from one request of a test to the next. The sprite sleeps when a test says so. */
const IDLE_SECONDS = 8;

const suite = useDaemon({
  flags: ["--idle-timeout", `${IDLE_SECONDS}s`],
  sprites: ["web"],
  prepare: (daemon) => daemon.hob("update", "web", "--idle-timeout", "0"),
});
const web = () => suite.sprite("web");
const fetchOf = (path: string, init?: RequestInit) => suite.daemon.fetch(`/v1/sprites/web/${path}`, init);
const post = (path: string, body: unknown) => suite.daemon.fetch(path, { method: "POST", body: JSON.stringify(body) });

async function textOf(response: Promise<Response>, status = 200): Promise<string> {
  const answer = await response;
  const text = await answer.text();
  assert.equal(answer.status, status, text);
  return text;
}

interface Line {
  type: string;
  path: string;
  change: string;
  text?: string;
  binary?: boolean;
  attributes?: { name: string; before: string | null; after: string | null }[];
  before: { mode: string; size: number } | null;
  after: { mode: string; size: number } | null;
}

/** Each path with how it changed; the stream has come to its end. */
async function diff(query: string): Promise<Map<string, Line>> {
  const lines = (await textOf(fetchOf(`checkpoints/diff?${query}`)))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
  const last = lines.pop();
  assert.equal(last?.type, "complete", JSON.stringify(last));
  return new Map(lines.map((line) => [line.path, line]));
}

covers("GET /v1/sprites/{name}/checkpoints/diff", "GET /v1/sprites/{name}/checkpoints/{id}/files");
covers("GET /v1/sprites/{name}/checkpoints/{id}/content", "POST /v1/sprites/{name}/checkpoints/{id}/restore-path");
covers("POST /v1/sprites/{name}/fork", "GET /v1/sprites/{name}/export", "POST /v1/storage/import");
covers("POST /v1/storage/fsck", "POST /v1/storage/gc");

test("what changed since a checkpoint", LIMIT, async () => {
  await outputOf(
    web(),
    `mkdir -p ~/app/old && echo one > ~/app/config && echo gone > ~/app/old/gone && echo same > ~/app/same && echo t > /tmp/t &&
     ln -s /etc/hostname ~/app/link && head -c 100 /dev/urandom > ~/app/data && sudo mkdir /etc/nginx && echo a | sudo tee /etc/nginx/conf &&
     sudo mkdir /opt/kept && sudo cp /bin/true /opt/kept/program && sudo ln /opt/kept/program /opt/kept/again`,
  );
  await completed(web().createCheckpoint("before"));
  await outputOf(
    web(),
    `cd ~/app && echo two > config && rm -r old && chmod 600 same && echo new > new && rm link && mkdir link && echo u > /tmp/t &&
     head -c 100 /dev/urandom > data && echo b | sudo tee /etc/nginx/conf /etc/nginx/more && sudo rm /etc/motd && sudo rm -r /etc/skel &&
     sudo setcap cap_net_raw+ep /opt/kept/program`,
  );
  const changed = await diff("from=v1&text=true");
  const changeOf = (path: string) => changed.get(path)?.change;
  const app = "/home/sprite/app";
  assert.deepEqual(
    ["config", "old", "old/gone", "same", "new", "link", "data"].map((name) => changeOf(`${app}/${name}`)),
    ["changed", "removed", "removed", "changed", "added", "type", "changed"],
  );
  assert.deepEqual([changeOf("/etc/motd"), changeOf("/etc/hosts"), changeOf("/tmp/t")], ["removed", undefined, "changed"]);
  assert.equal(changeOf("/etc/skel"), "removed");
  assert.match(changed.get(`${app}/config`)?.text ?? "", /^-one\n\+two$/m);
  assert.equal(changed.get(`${app}/data`)?.binary, true);
  assert.deepEqual([changed.get(`${app}/same`)?.before?.mode, changed.get(`${app}/same`)?.after?.mode], ["0644", "0600"]);
  // Revision 2, as getxattr(2) gives it inside: effective, and bit 13.
  const capabilities = Buffer.from("0100000200200000000000000000000000000000", "hex").toString("base64");
  for (const name of ["program", "again"]) {
    assert.deepEqual(changed.get(`/opt/kept/${name}`)?.attributes, [{ name: "security.capability", before: null, after: capabilities }]);
  }
  assert.deepEqual([...(await diff("from=v1&to=v1")).keys()], []);
  assert.deepEqual([...(await diff("from=v1&path=/etc/nginx")).keys()], ["/etc/nginx/conf", "/etc/nginx/more"]);
  await textOf(fetchOf("checkpoints/diff?from=v9"), 404);
});

test("a checkpoint is read without being restored, and not left", LIMIT, async () => {
  const listed = JSON.parse(await textOf(fetchOf("checkpoints/v1/files?path=/home/sprite/app"))) as { entries: { name: string }[] };
  assert.deepEqual(
    listed.entries.map(({ name }) => name),
    ["config", "data", "link", "old", "same"],
  );
  assert.equal(await textOf(fetchOf("checkpoints/v1/content?path=/home/sprite/app/config")), "one\n");
  await outputOf(web(), "ln -s /proc/1/status ~/app/escape; ln -s ../../../../../../../proc/1/status ~/app/up");
  await completed(web().createCheckpoint());
  for (const name of ["escape", "up", "none"]) await textOf(fetchOf(`checkpoints/v2/content?path=/home/sprite/app/${name}`), 404);
  await textOf(fetchOf("checkpoints/v9/content?path=/etc/hosts"), 404);
});

const spriteNow = async () => JSON.parse(await textOf(suite.daemon.fetch("/v1/sprites/web"))) as Sprite;
const hob = async (...args: string[]) => {
  const { code, stdout, stderr } = await suite.daemon.hob(...args);
  assert.equal(code, 0, stderr);
  return stdout;
};
const readerFolders = () => suite.daemon.spriteFolders().filter((name) => name.startsWith("reader-"));
/** No VM, process or folder of a reader. @param vms of sprites that run */
const noReader = (vms: number) =>
  until("nothing of the reader is left", () => suite.daemon.vmProcesses("qemu").length === vms && readerFolders().length === 0, 60_000);

/** @returns what tells the save that is there now from any other */
async function sleepNow(): Promise<{ ino: number; mtimeMs: number }> {
  assert.equal(await hob("sleep", "web"), "web is warm\n");
  return saveNow();
}

async function saveNow(): Promise<{ ino: number; mtimeMs: number }> {
  const { ino, mtimeMs } = statSync(join(suite.daemon.home, "sprites", (await spriteNow()).id, "devices.state"));
  return { ino, mtimeMs };
}

test("the history of a sprite that sleeps is read, and it sleeps on", LIMIT, async (context) => {
  const awake = await diff("from=v1&text=true");
  await hob("sync", "web");
  const save = await sleepNow();
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const begin = performance.now();
    const result = await work();
    context.diagnostic(`${what}: ${Math.round(performance.now() - begin)} ms`);
    return result;
  };
  const path = "/home/sprite/app";
  const listed = await timed("first answer", () => textOf(fetchOf(`checkpoints/v1/files?path=${path}`)));
  assert.equal((JSON.parse(listed) as { count: number }).count, 5);
  assert.deepEqual([suite.daemon.vmProcesses("qemu").length, readerFolders().length], [1, 1]);
  assert.deepEqual(suite.daemon.vmProcesses("passt"), [], "nothing leads out of it");
  assert.equal(await timed("second answer", () => textOf(fetchOf(`checkpoints/v1/content?path=${path}/config`))), "one\n");
  assert.equal(await timed("another checkpoint", () => hob("checkpoint", "cat", `web@v2:${path}/config`)), "two\n");
  assert.match(await hob("checkpoint", "ls", `web@v1:${path}`), /same/);
  assert.equal(await hob("checkpoint", "cat", `web@current:${path}/new`), "new\n");
  const asleep = await timed("diff with the newest state", () => diff("from=v1&text=true"));
  assert.deepEqual([...asleep], [...awake]);
  assert.match(await hob("checkpoint", "diff", "web", "v1", "v2"), /config/);
  await textOf(fetchOf(`checkpoints/v1/content?path=${path}/none`), 404);
  assert.deepEqual([(await spriteNow()).status, await saveNow(), readerFolders().length], ["warm", save, 1]);
  await noReader(0);
  assert.equal((await spriteNow()).status, "warm");
});

test("a reader goes when its sprite wakes, and a later daemon removes one that was left", LIMIT, async () => {
  const read = () => textOf(fetchOf("checkpoints/v1/content?path=/home/sprite/app/config"));
  assert.equal(await read(), "one\n");
  await outputOf(web(), "echo late > ~/app/late");
  await noReader(1);
  await sleepNow();
  // Not in the store, perhaps: then the sprite was woken. It must be in the answer.
  assert.equal(await textOf(fetchOf("checkpoints/Current/content?path=/home/sprite/app/late")), "late\n");
  assert.ok((await diff("from=v1")).has("/home/sprite/app/late"));
  await hob("sync", "web");
  const save = await sleepNow();
  assert.equal(await read(), "one\n");
  assert.equal(readerFolders().length, 1);
  await suite.daemon.kill9();
  await suite.daemon.restart();
  assert.deepEqual([suite.daemon.vmProcesses(), readerFolders()], [[], []]);
  assert.equal(await textOf(fetchOf("checkpoints/Current/content?path=/home/sprite/app/late")), "late\n");
  assert.deepEqual([(await spriteNow()).status, await saveNow(), readerFolders().length], ["warm", save, 1]);
});

test("one path is put back", LIMIT, async () => {
  const restored = JSON.parse(await textOf(post("/v1/sprites/web/checkpoints/v1/restore-path", { path: "/etc/nginx" })));
  assert.deepEqual([restored.replaced, restored.count], [true, 2]);
  assert.equal(await outputOf(web(), "cat /etc/nginx/conf; ls /etc/nginx; cat ~/app/config"), "a\nconf\ntwo");
  await textOf(post("/v1/sprites/web/checkpoints/v1/restore-path", { path: "/home/sprite/app/old" }));
  assert.equal(await outputOf(web(), "stat -c %U ~/app/old/gone; cat ~/app/old/gone"), "sprite\ngone");
  await textOf(post("/v1/sprites/web/checkpoints/v1/restore-path", { path: "/opt/kept" }));
  assert.equal(await outputOf(web(), "stat -c %h /opt/kept/program; sudo getcap /opt/kept/again"), "2");
  assert.deepEqual([...(await diff("from=v1&path=/opt/kept")).keys()], []);
  await textOf(post("/v1/sprites/web/checkpoints/v1/restore-path", { path: "/home/sprite/none" }), 404);
  await textOf(post("/v1/sprites/web/checkpoints/v1/restore-path", { path: "/var/lib/docker" }), 400);
});

test("the home folder as a whole is put back under those who work in it", LIMIT, async () => {
  const worker = `cd ~ && (while [ ! -e ~/stop ]; do sleep 0.2; done; cat app/config > /tmp/seen; pwd >> /tmp/seen) >/dev/null 2>&1 & echo $!`;
  const images = "~/.local/share/containers";
  const pid = await outputOf(web(), `mkdir -p ${images}/storage && echo kept > ${images}/storage/note; touch ~/later; ${worker}`);
  const home = await outputOf(web(), "stat -c %i ~");
  const restored = JSON.parse(await textOf(post("/v1/sprites/web/checkpoints/v1/restore-path", { path: "/home/sprite" })));
  assert.equal(restored.replaced, true);
  assert.equal(
    await outputOf(web(), `stat -c '%i %U' ~; ls ~; cat ~/app/config ${images}/storage/note; kill -0 ${pid} && ls -A /home`),
    `${home} sprite\napp\none\nkept\nsprite`,
  );
  await outputOf(web(), "touch ~/stop; for i in $(seq 300); do [ -s /tmp/seen ] && break; sleep 0.1; done; sleep 0.3; rm ~/stop");
  assert.equal(await outputOf(web(), "cat /tmp/seen"), "one\n/home/sprite");
  await textOf(post("/v1/sprites/web/checkpoints/v2/restore-path", { path: "/home" }));
  assert.equal(await outputOf(web(), "cat ~/app/config; ls ~/later 2>&1 | wc -l"), "two\n1");
});

test("fork, export and import have the files, and the policies from their first command on; the store is clean", LIMIT, async () => {
  const privileges = "/v1/sprites/web/policy/privileges";
  const confined = "grep -c 'NoNewPrivs:.*1' /proc/self/status; cat ~/app/config";
  await textOf(post(privileges, { noNewPrivileges: true }), 204);
  await textOf(post("/v1/sprites/web/fork", { name: "fork", checkpoint: "v1" }), 201);
  assert.equal(await outputOf(suite.sprite("fork"), confined), "1\none");
  await suite.daemon.sdk().deleteSprite("fork");
  const exported = await fetchOf("export");
  assert.equal(exported.status, 200);
  const file = await exported.arrayBuffer();
  await textOf(suite.daemon.fetch("/v1/storage/import?name=copy", { method: "POST", body: file }), 201);
  assert.equal(await outputOf(suite.sprite("copy"), confined), "1\ntwo");
  await suite.daemon.sdk().deleteSprite("copy");
  assert.deepEqual(JSON.parse(await textOf(post("/v1/storage/fsck", {}))).damage, []);
  assert.deepEqual(JSON.parse(await textOf(post("/v1/storage/gc", { dry_run: true }))).damaged, []);
});
