import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FilesystemError } from "@fly/sprites";
import { covers } from "./support/covers.ts";
import { outputOf, rootShell } from "./support/exec.ts";
import { useDaemon } from "./support/suite.ts";

covers(
  "GET /v1/sprites/{name}/fs/read",
  "PUT /v1/sprites/{name}/fs/write",
  "GET /v1/sprites/{name}/fs/list",
  "DELETE /v1/sprites/{name}/fs/delete",
);
covers(
  "POST /v1/sprites/{name}/fs/rename",
  "POST /v1/sprites/{name}/fs/copy",
  "POST /v1/sprites/{name}/fs/chmod",
  "POST /v1/sprites/{name}/fs/chown",
  "WSS /v1/sprites/{name}/fs/watch",
);

const LIMIT = { timeout: 90_000 };

const suite = useDaemon({ sprites: ["box"] });
const box = () => suite.sprite("box");
const files = (workingDir = "/home/sprite") => box().filesystem(workingDir);
const fails = (code: string, path?: string) => (error: unknown) =>
  error instanceof FilesystemError && error.code === code && (path === undefined || error.path === path);

describe("every method of the SDK's filesystem", () => {
  test("readFile, writeFile, appendFile, readJSON, writeJSON", LIMIT, async () => {
    const fs = files();
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7) % 256));
    await fs.writeFile("data/bytes", bytes, { mode: 0o640 });
    assert.deepEqual(await fs.readFile("data/bytes"), bytes);
    assert.equal(
      await outputOf(box(), "stat -c '%U %G %a' data/bytes; sha256sum data/bytes | cut -c1-8; pwd").then((text) => text.split("\n")[0]),
      "sprite sprite 640",
    );
    await fs.writeFile("text", "first");
    await fs.appendFile("text", ", second");
    await fs.appendFile("fresh", "third");
    assert.equal(await fs.readFile("text", "utf8"), "first, second");
    assert.equal(await fs.readFile("fresh", "utf8"), "third");
    await fs.writeJSON("value.json", { list: [1, 2] }, { spaces: 2 });
    assert.deepEqual(await fs.readJSON("value.json"), { list: [1, 2] });
    await assert.rejects(fs.readFile("missing"), fails("ENOENT", "/home/sprite/missing"));
    await assert.rejects(fs.readFile("data"), fails("EISDIR"));
    await assert.rejects(fs.readFile("/etc/shadow"), fails("EACCES", "/etc/shadow"));
    await assert.rejects(fs.writeFile("/etc/hosts", "x"), fails("EACCES"));
    await assert.rejects(fs.writeFile("data", "x"), fails("EISDIR"));
    await assert.rejects(fs.readJSON("text"), SyntaxError);
    await assert.rejects(fs.appendFile("text/x", "x"), fails("ENOTDIR"));
  });

  test("mkdir, readdir, stat, exists, rm", LIMIT, async () => {
    const fs = files();
    await fs.mkdir("tree/a/b", { recursive: true });
    await fs.mkdir("tree/c");
    await assert.rejects(fs.mkdir("tree/x/y"), fails("ENOENT"));
    await fs.writeFile("tree/a/file.txt", "x");
    assert.deepEqual(await fs.readdir("tree"), ["a", "c"]);
    assert.deepEqual(await fs.readdir("tree", { recursive: true, pattern: "*.txt" }), ["a/file.txt"]);
    const entries = await fs.readdir("tree/a", { withFileTypes: true });
    assert.deepEqual(
      entries.map((entry) => [entry.name, entry.isDirectory(), entry.isFile()]),
      [
        ["b", true, false],
        ["file.txt", false, true],
      ],
    );
    const stats = await fs.stat("tree/a/file.txt");
    assert.deepEqual([stats.size, stats.isFile(), stats.isSymbolicLink(), stats.mode], [1, true, false, 0o644]);
    assert.ok(Math.abs(stats.mtime.getTime() - Date.now()) < 60_000);
    assert.equal(await fs.exists("tree/a/file.txt"), true);
    assert.equal(await fs.exists("tree/nothing"), false);
    await assert.rejects(fs.readdir("tree/nothing"), fails("ENOENT"));
    await assert.rejects(fs.stat("tree/nothing"), fails("ENOENT"));
    await assert.rejects(fs.rm("tree"), fails("ENOTEMPTY"));
    await assert.rejects(fs.rm("tree/nothing"), fails("ENOENT"));
    await fs.rm("tree/nothing", { force: true });
    await rootShell(box(), "touch /root/owned");
    await assert.rejects(fs.rm("/root/owned"), fails("EACCES"));
    await fs.rm("/root/owned", { asRoot: true });
    await fs.rm("tree", { recursive: true });
    assert.equal(await fs.exists("tree"), false);
  });

  test("rename, copyFile, chmod, chown", LIMIT, async () => {
    const fs = files();
    await fs.writeFile("from/one", "1");
    await fs.rename("from/one", "from/two");
    await fs.copyFile("from", "to", { recursive: true, preserveAttrs: true });
    await fs.copyFile("from/two", "to/three");
    assert.deepEqual(await fs.readdir("to"), ["three", "two"]);
    await fs.chmod("to", 0o711, { recursive: true });
    await fs.chown("to/two", { uid: "root", gid: 0, asRoot: true });
    assert.equal(await outputOf(box(), "stat -c '%a %U:%G' to to/two"), "711 sprite:sprite\n711 root:root");
    await assert.rejects(fs.rename("from/none", "x"), fails("ENOENT"));
    await assert.rejects(fs.rename("from/two", "none/x"), fails("ENOENT", "/home/sprite/none/x"));
    await assert.rejects(fs.copyFile("from", "elsewhere"), fails("EISDIR"));
    await assert.rejects(fs.copyFile("from", "from/in", { recursive: true }), fails("EINVAL"));
    await assert.rejects(fs.chmod("to/two", 0o600), fails("EPERM"));
    await assert.rejects(fs.chown("from/two", { uid: "root" }), fails("EPERM"));
    await assert.rejects(fs.chown("from/two", { uid: "nobody-known" }), fails("EINVAL"));
    // A directory of the image, which overlayfs does not move.
    await fs.rename("/usr/share/common-licenses", "/usr/share/moved", { asRoot: true });
    assert.ok((await fs.readdir("/usr/share/moved")).includes("GPL-3"));
    assert.equal(await fs.exists("/usr/share/common-licenses"), false);
  });

  test("watch", LIMIT, async () => {
    const fs = files();
    await fs.mkdir("seen/below", { recursive: true });
    const watcher = await fs.watch("seen", { recursive: true });
    const next = async () => {
      const event = (await watcher.next()) as { type: string; event?: string; path?: string; paths?: string[] } | null;
      return event?.type === "event" ? `${event.event} ${event.path?.replace("/home/sprite/seen/", "")}` : event?.type;
    };
    assert.equal(await next(), "subscribed");
    await fs.writeFile("seen/below/new", "text");
    assert.deepEqual([await next(), await next()], ["create below/new", "write below/new"]);
    await outputOf(box(), "echo more >> seen/below/new");
    assert.equal(await next(), "write below/new");
    await fs.rm("seen/below/new");
    assert.equal(await next(), "remove below/new");
    watcher.close();
    const missing = await fs.watch("not-there");
    assert.equal(((await missing.next()) as { type: string }).type, "error");
    missing.close();
  });
});

test("what the SDK has no method for: the head of a file, one folder, a symbolic link", LIMIT, async () => {
  covers("HEAD /v1/sprites/{name}/fs/read", "POST /v1/sprites/{name}/fs/mkdir", "POST /v1/sprites/{name}/fs/symlink");
  const ask = (route: string, body: object) =>
    suite.daemon.fetch(`/v1/sprites/box/fs/${route}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ workingDir: "/home/sprite", ...body }),
    });
  assert.equal((await ask("mkdir", { path: "made" })).status, 200);
  assert.equal((await ask("mkdir", { path: "made" })).status, 409);
  await files().writeFile("made/file", "12345");
  assert.equal((await ask("symlink", { target: "made/file", path: "link" })).status, 200);
  assert.equal((await ask("symlink", { target: "made/file", path: "link" })).status, 409);
  assert.equal(await outputOf(box(), "readlink ~/link; cat ~/link"), "made/file\n12345");
  const head = await suite.daemon.fetch("/v1/sprites/box/fs/read?path=/home/sprite/link", { method: "HEAD" });
  assert.deepEqual([head.status, head.headers.get("content-length"), await head.text()], [200, "5", ""]);
});

test("files go on working when the user has destroyed every program", LIMIT, async () => {
  await rootShell(box(), "mount -t tmpfs none /usr");
  const fs = files();
  await fs.writeFile("note", "still here");
  assert.equal(await fs.readFile("note", "utf8"), "still here");
  await fs.chown("note", { uid: 0, asRoot: true });
  await fs.rm("note", { asRoot: true });
});
