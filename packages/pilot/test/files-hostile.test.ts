import assert from "node:assert/strict";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileListAnswer } from "@hob/protocol";
import type { HelperProcess } from "../src/helper/index.ts";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startFilesServer } from "./support/files-server.ts";
import { collect, waitFor } from "./support/helper.ts";

const LIMIT = { timeout: 120_000 };
/** Attempts of each race; without protection, it is lost within a few. */
const ATTEMPTS = 200;

/** renameat2(2) with RENAME_EXCHANGE: exchanges the directory `swap` for a symbolic link to `$ARGV[0]` and back, without end. */
const SWAPPER = `
  my ($link, $swap) = ("tree/link", "tree/swap"); $| = 1;
  while (1) {
    mkdir("tree"); symlink($ARGV[0], $link); mkdir($swap);
    syscall(316, -100, $link, -100, $swap, 2) for (1..5);
    if ($count++ == 100) { print "ready\\n" }
  }`;

describe("files against hostile users", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startFilesServer);
  /** a file of the machine that is not in the container */
  const outside = `/dev/shm/hob-files-test-${process.pid}`;
  before(() => writeFileSync(outside, "outside"));
  after(() => rmSync(outside, { force: true }));

  const spec = (argv: string[], user: "sprite" | "root" = "sprite") => ({
    argv,
    env: { PATH: "/usr/bin:/bin" },
    cwd: "/home/sprite",
    user,
    ...(user === "root" ? { uid: 0, gid: 0 } : { uid: 1000, gid: 1000 }),
    target: suite.container.target,
  });
  const run = async (script: string, user: "sprite" | "root" = "sprite") => {
    const { code, stdout, stderr } = await collect(suite.helper.client, spec(["bash", "-c", script], user));
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const perl = (script: string, ...args: string[]) => collect(suite.helper.client, spec(["perl", "-e", script, ...args]));
  const text = async (target: string) => (await suite.server.fetch(target)).text();
  const json = async (target: string, init?: RequestInit) => (await suite.server.fetch(target, init)).json();
  const remove = (path: string, more = "") => suite.server.fetch(`delete?path=${path}&recursive=true${more}`, { method: "DELETE" });
  const post = (name: string, body: object) => suite.server.fetch(name, { method: "POST", body: JSON.stringify(body) });
  /** Runs `attempt` many times while a directory and a link change places. */
  const racing = async (target: string, attempt: () => Promise<unknown>) => {
    await run("mkdir -p race");
    const swapper: HelperProcess = await suite.helper.client.exec({ ...spec(["perl", "-e", SWAPPER, target]), cwd: "/home/sprite/race" });
    await new Promise<void>((resolve) => swapper.start({ stdout: () => resolve(), stderr: () => {} }));
    try {
      for (let round = 0; round < ATTEMPTS; round++) await attempt();
    } finally {
      swapper.signal(9);
      await swapper.exited;
      await run("rm -rf /home/sprite/race", "root");
    }
  };

  test("no path leads out of the container", LIMIT, async () => {
    await run(`ln -s ${outside} shm; ln -s /proc/1/root rootlink; ln -s ../../../../../../../..${outside} dots`);
    const tries = [outside, "shm", "dots", `/proc/1/root${outside}`, `rootlink${outside}`, `/proc/self/root${outside}`];
    tries.push(`/proc/self/cwd${outside}`, "/proc/self/fd/3", "/proc/self/exe", "/dev/fd/3", `../../..${outside}`);
    for (const asRoot of ["false", "true"]) {
      for (const path of tries) {
        const answer = await suite.server.fetch(`read?workingDir=/home/sprite&asRoot=${asRoot}&path=${path}`);
        assert.ok(answer.status === 404 || answer.status === 400 || answer.status === 403, `${path}: ${answer.status}`);
        assert.doesNotMatch(await answer.text(), /^outside/);
      }
    }
    const written = await suite.server.fetch(`write?asRoot=true&mkdirParents=true&path=${outside}`, { method: "PUT", body: "inside" });
    assert.equal(written.status, 200, "the same path inside is another file");
    assert.equal(readFileSync(outside, "utf8"), "outside");
    assert.equal(await text(`read?path=${outside}`), "inside");
  });

  test("root of the container is no more than that", LIMIT, async () => {
    const answer = await suite.server.fetch("write?asRoot=true&path=/proc/sys/kernel/core_pattern", { method: "PUT", body: "x" });
    assert.ok(answer.status >= 400 && answer.status < 500, String(answer.status));
    assert.match(await text("read?asRoot=true&path=/proc/self/uid_map"), /0 +100000 +65536/);
    const chown = await post("chown", { path: "/home/sprite", uid: 70_000, asRoot: true });
    assert.equal(chown.status, 400, "an id that the container does not have");
  });

  test("race: a read never gets what only another user may read", LIMIT, async () => {
    await run("mkdir -m 700 -p /home/private; echo private > /home/private/swapped", "root");
    const seen = new Set<number>();
    await racing("/home/private", async () => {
      const answer = await suite.server.fetch("read?path=/home/sprite/race/tree/swap/swapped");
      seen.add(answer.status);
    });
    assert.deepEqual([...seen].sort(), [403, 404], "refused through the link, absent in the directory");
  });

  test("race: a deletion never follows a link, whoever may delete what is there", LIMIT, async () => {
    await run("mkdir -p /home/precious; touch /home/precious/a /home/precious/b; chmod -R 777 /home/precious", "root");
    await racing("/home/precious", () => remove("/home/sprite/race/tree", "&asRoot=true"));
    assert.equal(await run("ls /home/precious"), "a\nb");
  });

  test("race: changing modes and owners of a tree never follows a link", LIMIT, async () => {
    await run("mkdir -p /home/fixed; touch /home/fixed/file; chmod 700 /home/fixed /home/fixed/file", "root");
    await racing("/home/fixed", async () => {
      await post("chown", { path: "/home/sprite/race", uid: 1000, gid: 1000, recursive: true, asRoot: true });
      await post("chmod", { path: "/home/sprite/race", mode: "0777", recursive: true, asRoot: true });
    });
    assert.equal(await run("stat -c '%u %a' /home/fixed /home/fixed/file", "root"), "0 700\n0 700");
  });

  test("race: a copy as root of a tree takes nothing from behind a link", LIMIT, async () => {
    await run("mkdir -m 700 -p /home/hidden; echo hidden > /home/hidden/file", "root");
    let copies = 0;
    await racing("/home/hidden", () =>
      post("copy", { source: "/home/sprite/race", dest: `/home/sprite/copied-${++copies}`, recursive: true, asRoot: true }),
    );
    assert.equal(await run("grep -rl hidden /home/sprite/copied-* || true", "root"), "");
    await run("rm -rf /home/sprite/copied-*", "root");
  });

  test("FIFOs and devices hold nobody up", LIMIT, async () => {
    await run("mkdir special; cd special; mkfifo pipe; ln -s pipe link; touch file");
    for (const path of ["pipe", "link", "/dev/ptmx", "/dev/pts"]) {
      const answer = await suite.server.fetch(`read?workingDir=/home/sprite/special&path=${path}`);
      assert.equal(answer.status, 400, path);
      assert.ok(
        (await suite.server.fetch(`write?workingDir=/home/sprite/special&path=${path}`, { method: "PUT", body: "x" })).status >= 400,
        path,
      );
    }
    assert.equal((await post("copy", { source: "/home/sprite/special", dest: "/home/sprite/special2", recursive: true })).status, 200);
    assert.equal((await remove("/home/sprite/special2")).status, 200);
    // By the API itself: a shell would wait for the FIFO.
    const away = { source: "/etc/passwd", dest: "/etc/passwd.away", asRoot: true };
    assert.equal((await post("rename", away)).status, 200);
    await collect(suite.helper.client, spec(["mkfifo", "/etc/passwd"], "root"));
    assert.equal((await post("chown", { path: "/home/sprite/special", uid: "sprite" })).status, 400);
    assert.equal((await post("rename", { ...away, source: away.dest, dest: away.source })).status, 200);
  });

  test("names of any bytes are listed, copied and deleted", LIMIT, async () => {
    await perl(
      `mkdir "names"; for ("a\\nb", "\\xff\\xfe", "q\\"\\\\", "tab\\t", " ", "-rf", "\\xed\\xa0\\x80", "\\x7f\\x01") { open F, ">", "names/$_" or die $!; close F }`,
    );
    const list = fileListAnswer.parse(await json("list?path=/home/sprite/names"));
    assert.equal(list.count, 8);
    for (const name of ["a\nb", "\uFFFD\uFFFD", 'q"\\', "tab\t", " ", "-rf", "\x7f\x01"]) {
      assert.ok(
        list.entries.some((entry) => entry.name === name),
        JSON.stringify(name),
      );
    }
    assert.equal((await suite.server.fetch(`read?path=${encodeURIComponent("/home/sprite/names/a\nb")}`)).status, 200);
    assert.equal((await post("copy", { source: "/home/sprite/names", dest: "/home/sprite/names2", recursive: true })).status, 200);
    assert.equal(await run("ls -A names2 | wc -l"), "9");
    for (const name of ["names", "names2"]) assert.equal((await remove(`/home/sprite/${name}`)).status, 200);
    await run("touch -d @99999999999 far; touch -d @-99999999999 early");
    assert.equal(fileListAnswer.parse(await json("list?path=/home/sprite/far")).count, 1);
    assert.equal(fileListAnswer.parse(await json("list?path=/home/sprite/early")).count, 1);
    assert.equal((await suite.server.fetch("read?path=/home/sprite/far")).status, 200);
  });

  test("a sparse file larger than the disk is read in parts and copied with its holes", LIMIT, async () => {
    await run("truncate -s 1T sparse; printf end | dd of=sparse bs=1 seek=$((1024*1024*1024*1024 - 3)) conv=notrunc status=none");
    const end = await suite.server.fetch("read?path=/home/sprite/sparse", { headers: { range: "bytes=-3" } });
    assert.deepEqual([end.headers.get("content-range"), await end.text()], ["bytes 1099511627773-1099511627775/1099511627776", "end"]);
    assert.equal((await post("copy", { source: "sparse", dest: "sparse2" })).status, 200);
    assert.ok(statSync(join(suite.container.root, "home/sprite/sparse2")).blocks < 2048);
    // A client that goes in the middle of a terabyte leaves nothing behind.
    const { hostname, port } = new URL(suite.server.baseURL);
    const headers = { authorization: suite.server.authorization };
    await new Promise<void>((resolve) => {
      const reading = request({ hostname, port, path: "/v1/sprites/box/fs/read?path=sparse", headers }, (response) => {
        response.once("data", () => response.destroy());
        response.once("close", resolve);
        response.on("error", () => {});
      });
      reading.end();
    });
    await waitFor(
      () => readFileSync(`/proc/${suite.helper.process.pid}/task/${suite.helper.process.pid}/children`, "utf8") === "",
      "end of the helper's work",
    );
    await run("rm sparse sparse2");
  });

  test("2,500 directories inside each other", LIMIT, async () => {
    await perl(`mkdir "deep"; chdir "deep"; for (1..2500) { mkdir "d"; chdir "d" or die $! } open F, ">", "bottom"`);
    const list = await suite.server.fetch("list?path=/home/sprite/deep&recursive=true");
    assert.equal(list.status, 400, "a tree that is too deep to be told");
    assert.equal((await post("copy", { source: "deep", dest: "deep2", recursive: true })).status, 400);
    for (const name of ["deep", "deep2"]) {
      const answer = await remove(name);
      assert.equal(answer.status, 200, await answer.text());
    }
    assert.equal(await run("ls -d deep* 2>/dev/null || true"), "");
  });

  test("100,000 entries: listed as a stream, deleted, and reported in part", LIMIT, async () => {
    await perl(`mkdir "many"; for (1..100000) { open F, ">", "many/entry-with-a-name-$_" or die $!; close F }`);
    const list = fileListAnswer.parse(await json("list?path=/home/sprite/many"));
    assert.deepEqual([list.count, list.entries.length, new Set(list.entries.map((entry) => entry.name)).size], [100_000, 100_000, 100_000]);
    const one = fileListAnswer.parse(await json("list?path=/home/sprite/many&pattern=*-77777"));
    assert.equal(one.count, 1);
    const deleted = (await (await remove("many")).json()) as { deleted: string[]; count: number };
    assert.deepEqual([deleted.count, deleted.deleted[0]], [100_001, "/home/sprite/many"]);
    assert.ok(deleted.deleted.length <= 1001);
  });

  test("a pattern made to be slow is not", LIMIT, async () => {
    await run(`mkdir slow; touch slow/${"a".repeat(200)}`);
    const pattern = `${"*a".repeat(60)}*b`;
    assert.equal(fileListAnswer.parse(await json(`list?path=slow&pattern=${pattern}`)).count, 0);
    assert.equal(fileListAnswer.parse(await json(`list?path=slow&recursive=true&pattern=${"**/".repeat(50)}*b`)).count, 0);
  });

  test("what is mounted in a tree is not deleted with it", LIMIT, async () => {
    await run(
      "mkdir -p mounted/here; chmod 777 mounted/here; mount -t tmpfs none /home/sprite/mounted/here; touch /home/sprite/mounted/here/kept",
      "root",
    );
    const answer = await remove("mounted", "&asRoot=true");
    assert.deepEqual([answer.status, ((await answer.json()) as { errno: string }).errno], [409, "EBUSY"]);
    assert.equal(await run("ls mounted/here; umount /home/sprite/mounted/here", "root"), "kept");
  });

  test("the end of the container is an error, no hang", LIMIT, async () => {
    suite.container.stop();
    await waitFor(async () => (await suite.server.fetch("read?path=/etc/passwd")).status !== 200, "end of the container");
    const answer = await suite.server.fetch("read?path=/etc/passwd");
    assert.ok(answer.status >= 500, String(answer.status));
    assert.equal(((await answer.json()) as { code: string }).code, "EIO");
  });
});
