import assert from "node:assert/strict";
import { request } from "node:http";
import { describe, test } from "node:test";
import { FilesystemError } from "@fly/sprites";
import { fileChmodAnswer, fileCopyAnswer, fileErrorBody, fileListAnswer, fileWriteAnswer } from "@hob/protocol";
import { containerUnavailable } from "./support/container.ts";
import { useContainer } from "./support/container-suite.ts";
import { startFilesServer } from "./support/files-server.ts";
import { collect, waitFor } from "./support/helper.ts";

const LIMIT = { timeout: 60_000 };

describe("files over the API", { skip: containerUnavailable() ?? false }, () => {
  const suite = useContainer(startFilesServer);

  const run = async (script: string, user: "sprite" | "root" = "sprite") => {
    const ids = user === "root" ? { uid: 0, gid: 0 } : { uid: 1000, gid: 1000 };
    const spec = { argv: ["bash", "-c", script], env: { PATH: "/usr/bin:/bin" }, cwd: "/home/sprite", user, ...ids };
    const { code, stdout, stderr } = await collect(suite.helper.client, { ...spec, target: suite.container.target });
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const put = (target: string, body: string | Uint8Array<ArrayBuffer> = "") =>
    suite.server.fetch(`write?${target}`, { method: "PUT", body });
  const post = (name: string, body: object) => suite.server.fetch(name, { method: "POST", body: JSON.stringify(body) });
  const refusal = async (answer: Promise<Response>) => {
    const response = await answer;
    const body = fileErrorBody.parse(await response.json());
    return [response.status, body.code];
  };
  const home = (name: string) => `/home/sprite/${name}`;

  test("what is written is read again, by range too", LIMIT, async () => {
    const content = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 251));
    const written = fileWriteAnswer.parse(await (await put("path=range.bin&workingDir=/home/sprite", content)).json());
    assert.deepEqual(written, { path: home("range.bin"), size: 100_000, mode: "0644" });
    const read = async (range?: string) =>
      suite.server.fetch(`read?path=${home("range.bin")}`, range === undefined ? {} : { headers: { range } });
    const whole = await read();
    assert.equal(whole.status, 200);
    assert.equal(whole.headers.get("content-type"), "application/octet-stream");
    assert.equal(whole.headers.get("content-length"), "100000");
    assert.equal(whole.headers.get("sprite-version"), "v0.0.1-rc48");
    assert.deepEqual(Buffer.from(await whole.arrayBuffer()), content);
    for (const [range, from, to] of [
      ["bytes=0-0", 0, 0],
      ["bytes=10-99", 10, 99],
      ["bytes=99990-", 99_990, 99_999],
      ["bytes=-5", 99_995, 99_999],
      ["bytes=-999999", 0, 99_999],
      ["bytes=500-999999999", 500, 99_999],
    ] as const) {
      const part = await read(range);
      assert.equal(part.status, 206, range);
      assert.equal(part.headers.get("content-range"), `bytes ${from}-${to}/100000`);
      assert.deepEqual(Buffer.from(await part.arrayBuffer()), content.subarray(from, to + 1), range);
    }
    const beyond = await read("bytes=100000-");
    assert.deepEqual([beyond.status, beyond.headers.get("content-range")], [416, "bytes */100000"]);
    for (const ignored of ["bytes=5-2", "bytes=1-2,5-6", "items=1-2", "bytes=-"]) assert.equal((await read(ignored)).status, 200, ignored);
    const head = await suite.server.fetch(`read?path=${home("range.bin")}`, { method: "HEAD" });
    assert.deepEqual([head.status, head.headers.get("content-length"), await head.text()], [200, "100000", ""]);
    const etag = head.headers.get("etag") ?? "";
    assert.equal((await suite.server.fetch(`read?path=${home("range.bin")}`, { headers: { "if-none-match": etag } })).status, 304);
  });

  test("files whose size the kernel does not know beforehand, and empty ones", LIMIT, async () => {
    assert.match(await (await suite.server.fetch("read?path=/proc/self/status")).text(), /Uid:\t1000\t1000/);
    assert.match(await (await suite.server.fetch("read?path=/proc/self/status&asRoot=true")).text(), /Uid:\t0\t0/);
    await put(`path=${home("empty")}`);
    const empty = await suite.server.fetch(`read?path=${home("empty")}`);
    assert.deepEqual([empty.status, empty.headers.get("content-length"), await empty.text()], [200, "0", ""]);
    assert.equal((await suite.server.fetch(`read?path=${home("empty")}`, { headers: { range: "bytes=0-5" } })).status, 416);
  });

  test("each kind of failure has its code and status", LIMIT, async () => {
    await run("mkdir -p d/full; touch f d/full/x; chmod 000 f; ln -sfn loop loop; mkfifo -m 600 fifo");
    const read = (path: string) => refusal(suite.server.fetch(`read?workingDir=/home/sprite&path=${path}`));
    assert.deepEqual(await read("nope"), [404, "ENOENT"]);
    assert.deepEqual(await read("d"), [400, "EISDIR"]);
    assert.deepEqual(await read("f"), [403, "EACCES"]);
    assert.deepEqual(await read("f/x"), [400, "ENOTDIR"]);
    assert.deepEqual(await read("loop"), [400, "EINVAL"]);
    assert.deepEqual(await read("fifo"), [400, "EINVAL"]);
    assert.deepEqual(await read("/dev/ptmx"), [400, "EINVAL"]);
    assert.deepEqual(await read("x".repeat(300)), [400, "EINVAL"]);
    assert.deepEqual(await read("d/".repeat(3000)), [400, "EINVAL"]);
    assert.deepEqual(await read("a%00b"), [400, "EINVAL"]);
    assert.deepEqual(await refusal(suite.server.fetch("read")), [400, "EINVAL"]);
    assert.deepEqual(await refusal(suite.server.fetch("read?path=x&asRoot=maybe")), [400, "EINVAL"]);
    const write = (path: string) => refusal(put(`workingDir=/home/sprite&path=${path}`, "x"));
    assert.deepEqual(await write("d"), [400, "EISDIR"]);
    assert.deepEqual(await write("d/"), [400, "EISDIR"]);
    assert.deepEqual(await write("new/"), [400, "EISDIR"]);
    assert.deepEqual(await write("nope/x"), [404, "ENOENT"]);
    assert.deepEqual(await write("f"), [403, "EACCES"]);
    assert.deepEqual(await write("fifo"), [400, "EINVAL"]);
    assert.deepEqual(await write("/etc/passwd"), [403, "EACCES"]);
    assert.deepEqual(await refusal(put(`path=${home("m")}&mode=9`)), [400, "EINVAL"]);
    const remove = (path: string) => refusal(suite.server.fetch(`delete?path=${path}&workingDir=/home/sprite`, { method: "DELETE" }));
    assert.deepEqual(await remove("nope"), [404, "ENOENT"]);
    assert.deepEqual(await remove("d/full"), [409, "ENOTEMPTY"]);
    assert.deepEqual(await remove("d/.."), [400, "EINVAL"]);
    assert.deepEqual(await remove("/"), [400, "EINVAL"]);
    assert.deepEqual(await remove("f/"), [400, "ENOTDIR"]);
    assert.deepEqual(await refusal(post("rename", { source: "d", dest: "f", workingDir: "/home/sprite" })), [400, "ENOTDIR"]);
    assert.deepEqual(await refusal(post("rename", { source: "d", dest: "d/full/y", workingDir: "/home/sprite" })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(post("mkdir", { path: home("d") })), [409, "EEXIST"]);
    assert.deepEqual(await refusal(post("chown", { path: home("d"), uid: "nobody-of-this-name" })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(post("chown", { path: home("d"), uid: 0 })), [403, "EPERM"]);
    assert.deepEqual(await refusal(post("chown", { path: home("d") })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(suite.server.fetch("rename", { method: "POST", body: "{" })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(suite.server.fetch("rename", { method: "POST", body: "[]" })), [400, "EINVAL"]);
    assert.equal((await suite.server.fetch("read?path=x", { method: "POST" })).status, 405);
    assert.equal((await suite.server.fetch("nothing")).status, 404);
    const below = await suite.server.fetch("delete?path=/home/sprite/d&recursive=true", { method: "DELETE" });
    assert.equal(below.status, 200);
  });

  test("a write replaces the content at once and keeps owner, mode, links and names", LIMIT, async () => {
    await run("mkdir w; cd w; echo old > plain; chmod 640 plain; echo old > target; ln -s target link; echo old > one; ln one two");
    for (const name of ["plain", "link", "one"]) assert.equal((await put(`path=w/${name}`, "new")).status, 200);
    assert.equal(await run("cd w; cat plain target two; readlink link; stat -c '%a %h' plain one"), "newnewnewtarget\n640 1\n644 2");
    await run("echo old > /home/sprite/w/owned; chown 1000:27 /home/sprite/w/owned; chmod 4755 /home/sprite/w/owned", "root");
    assert.equal((await put("path=w/owned&asRoot=true", "new")).status, 200);
    assert.equal(await run("stat -c '%u:%g %a' w/owned"), "1000:27 4755");
    // Another user's file that may be written: replacing it would make it one's own.
    await run("echo old > /home/sprite/w/shared; chown 0:0 /home/sprite/w/shared; chmod 666 /home/sprite/w/shared", "root");
    assert.equal((await put("path=w/shared", "new")).status, 200);
    assert.equal(await run("cat w/shared; stat -c ' %u:%g %a' w/shared"), "new 0:0 666");
    // A directory that may not be written, a file in it that may.
    await run("mkdir w/closed; echo old > w/closed/file; chmod 555 w/closed");
    assert.equal((await put("path=w/closed/file", "new")).status, 200);
    assert.equal(await run("cat w/closed/file; ls -A w w/closed | grep hob || true"), "new");
    assert.deepEqual(await refusal(put("path=w/closed/other", "new")), [403, "EACCES"]);
  });

  test("mode and missing directories, in each spelling", LIMIT, async () => {
    for (const [given, wanted] of [
      ["644", "0644"],
      ["0600", "0600"],
      ["0o755", "0755"],
      ["4711", "4711"],
    ]) {
      const answer = fileWriteAnswer.parse(await (await put(`path=modes/${given}&mode=${given}&mkdirParents=true`)).json());
      assert.equal(answer.mode, wanted);
    }
    assert.equal((await put("path=by/mkdir/x&mkdir=true")).status, 200);
    await put("path=modes/c");
    for (const [given, wanted] of [
      ["755", "0755"],
      ["0640", "0640"],
      [493, "0755"],
      [755, "0755"],
      [420, "0644"],
    ] as const) {
      const answer = fileChmodAnswer.parse(await (await post("chmod", { path: "modes/c", mode: given })).json());
      assert.deepEqual(answer, { affected: [{ path: home("modes/c"), mode: wanted }], count: 1 });
    }
    assert.equal((await suite.server.fetch("chmod?path=modes/c&mode=0600", { method: "POST" })).status, 200, "in the query");
    await suite.server.sdk("/home/sprite").mkdir("marked");
    assert.equal(await run("stat -c %F marked; ls -A marked"), "directory");
    await assert.rejects(suite.server.sdk("/home/sprite").mkdir("not/marked"), { code: "ENOENT" });
  });

  test("lists: one file, a directory, a tree, patterns", LIMIT, async () => {
    await run("mkdir -p l/sub/deep; cd l; touch b.txt a.txt .hidden sub/c.txt sub/deep/d.txt; ln -s a.txt link; ln -s nowhere dangling");
    const list = async (query: string) =>
      fileListAnswer.parse(await (await suite.server.fetch(`list?workingDir=/home/sprite/l&${query}`)).json());
    const names = async (query: string) => (await list(query)).entries.map((entry) => entry.name);
    assert.deepEqual(await names("path=."), [".hidden", "a.txt", "b.txt", "dangling", "link", "sub"]);
    assert.deepEqual(await names("path=&pattern=*.txt"), ["a.txt", "b.txt"]);
    assert.deepEqual(await names("path=.&recursive=true&pattern=*.txt"), ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt"]);
    assert.deepEqual(await names("path=.&recursive=true&pattern=sub/*.txt"), ["sub/c.txt"]);
    assert.deepEqual(await names("path=.&recursive=true&pattern=sub/**/*.txt"), ["sub/c.txt", "sub/deep/d.txt"]);
    assert.deepEqual(await names("path=.&recursive=true&pattern=[!a]?[c-z]*"), [
      ".hidden",
      "b.txt",
      "dangling",
      "link",
      "sub/c.txt",
      "sub/deep",
      "sub/deep/d.txt",
    ]);
    const one = await list("path=link");
    assert.deepEqual([one.count, one.entries[0]?.name, one.entries[0]?.type, one.entries[0]?.isDir], [1, "link", "file", false]);
    const link = (await list("path=.")).entries.find((entry) => entry.name === "link");
    assert.deepEqual([link?.type, link?.target, link?.path], ["symlink", "a.txt", home("l/link")]);
    const itself = await list("path=.&stat=true");
    assert.deepEqual([itself.count, itself.entries[0]?.isDir, itself.entries[0]?.path], [1, true, home("l")]);
    assert.deepEqual(await refusal(suite.server.fetch(`list?path=${home("l/dangling")}`)), [404, "ENOENT"]);
    await run("mkdir l/secret; touch l/secret/x; chmod 0 l/secret");
    assert.ok((await names("path=.&recursive=true")).includes("secret"), "an unreadable directory is named, its content left out");
    assert.deepEqual(await refusal(suite.server.fetch(`list?path=${home("l/secret")}`)), [403, "EACCES"]);
  });

  test("copies: trees with links, attributes, no copy into itself", LIMIT, async () => {
    await run(
      "mkdir -p c/from/sub; cd c/from; echo x > sub/file; ln -s sub/file link; chmod 750 sub; mkfifo fifo; touch -d 2001-02-03 sub/file",
    );
    const copy = (body: object) => post("copy", { workingDir: "/home/sprite/c", ...body });
    assert.deepEqual(await refusal(copy({ source: "from", dest: "to" })), [400, "EISDIR"]);
    const copied = fileCopyAnswer.parse(await (await copy({ source: "from", dest: "to", recursive: true, preserveAttrs: true })).json());
    assert.deepEqual([copied.count, copied.totalBytes], [5, 2]);
    assert.ok(copied.copied.some(({ source, dest }) => source === home("c/from/sub/file") && dest === home("c/to/sub/file")));
    assert.equal(
      await run("cd c/to; readlink link; stat -c %F fifo; stat -c '%a %y' sub sub/file | cut -c1-14"),
      ["sub/file", "fifo", `750 ${new Date().toISOString().slice(0, 10)}`, "644 2001-02-03"].join("\n"),
    );
    assert.equal((await copy({ source: "from", dest: "to", recursive: true })).status, 200, "once more, into what is there");
    assert.deepEqual(await refusal(copy({ source: "from", dest: "from/sub/again", recursive: true })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(copy({ source: "from", dest: "from", recursive: true })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(copy({ source: "from/sub/file", dest: "from/sub/file" })), [400, "EINVAL"]);
    assert.deepEqual(await refusal(copy({ source: "from/sub/file", dest: "to" })), [400, "EISDIR"]);
    assert.deepEqual(await refusal(copy({ source: "from", dest: "to/sub/file", recursive: true })), [400, "ENOTDIR"]);
    assert.deepEqual(await refusal(copy({ source: "nope", dest: "to" })), [404, "ENOENT"]);
    assert.equal((await copy({ source: "from/link", dest: "single" })).status, 200);
    assert.equal(await run("cd c; stat -c %F single; cat single"), "regular file\nx");
  });

  test("owners and modes of whole trees", LIMIT, async () => {
    await run("mkdir -p o/a/b; touch o/a/f o/a/b/g; ln -s /etc/passwd o/link; chmod 000 o/a");
    assert.equal((await post("chmod", { path: "o", mode: "0755", recursive: true })).status, 200);
    assert.equal(await run("stat -c %a o/a o/a/b/g; stat -c %a /etc/passwd"), "755\n755\n644");
    const answer = await post("chown", { path: "o", uid: "sprite", gid: "other", recursive: true, asRoot: true });
    assert.deepEqual([answer.status, ((await answer.json()) as { count: number }).count], [200, 6]);
    assert.equal(await run("stat -c %u:%g o o/a/b/g o/link; stat -c %u:%g /etc/passwd"), "1000:30\n1000:30\n1000:30\n65534:65534");
    assert.equal((await post("chown", { path: "o", uid: "1000", gid: 27, asRoot: true })).status, 200);
    assert.equal((await post("chown", { path: "o", uid: "+0", asRoot: "true" })).status, 200);
    assert.equal(await run("stat -c %u:%g o"), "0:27");
  });

  test("16 MiB are the limit unless more is asked for; a body that is cut off writes nothing", { timeout: 120_000 }, async () => {
    const large = new Uint8Array(17 * 1024 * 1024);
    const refused = await put("path=large", large);
    assert.equal(refused.status, 413);
    const chunked = new ReadableStream({
      start(controller) {
        for (let at = 0; at < large.length; at += 1024 * 1024) controller.enqueue(large.subarray(at, at + 1024 * 1024));
        controller.close();
      },
    });
    const streamed = await suite.server.fetch("write?path=large", { method: "PUT", body: chunked, duplex: "half" } as RequestInit);
    assert.equal(streamed.status, 413);
    assert.deepEqual(await refusal(suite.server.fetch("read?path=large")), [404, "ENOENT"]);
    assert.equal((await put("path=large&large=true", large)).status, 200);
    assert.equal((await put("path=kept", "kept")).status, 200);
    const { hostname, port } = new URL(suite.server.baseURL);
    const headers = { authorization: suite.server.authorization, "content-length": 1_000_000 };
    const cut = request({ hostname, port, method: "PUT", path: "/v1/sprites/box/fs/write?path=kept", headers });
    cut.on("error", () => {});
    cut.write(Buffer.alloc(500_000));
    await waitFor(async () => (await run("ls -A | grep hob-write || true")) !== "", "temporary file");
    cut.destroy();
    await waitFor(async () => (await run("ls -A | grep hob-write || true")) === "", "removed temporary file");
    assert.equal(await run("cat kept"), "kept");
  });

  test("every method of the SDK's filesystem", LIMIT, async () => {
    const fs = suite.server.sdk("/home/sprite");
    await fs.writeFile("sdk/one.txt", "one", { mode: 0o600 });
    assert.equal(await fs.readFile("sdk/one.txt", "utf8"), "one");
    await fs.appendFile("sdk/one.txt", " two");
    await fs.appendFile("sdk/fresh.txt", "fresh");
    assert.deepEqual(await fs.readFile("sdk/one.txt"), Buffer.from("one two"));
    await fs.writeJSON("sdk/value.json", { a: 1 }, { spaces: 2 });
    assert.deepEqual(await fs.readJSON("sdk/value.json"), { a: 1 });
    const stats = await fs.stat("sdk/one.txt");
    assert.deepEqual([stats.size, stats.mode, stats.isFile(), stats.isDirectory()], [7, 0o600, true, false]);
    await fs.copyFile("sdk/one.txt", "sdk/copy.txt");
    await fs.rename("sdk/copy.txt", "sdk/renamed.txt");
    await fs.chmod("sdk/renamed.txt", 0o711);
    await fs.chown("sdk/renamed.txt", { gid: "wheel" });
    assert.equal(await run("stat -c '%a %G' sdk/renamed.txt"), "711 wheel");
    await fs.mkdir("sdk/x/y", { recursive: true });
    const entries = await fs.readdir("sdk", { withFileTypes: true });
    assert.deepEqual(
      entries.map((entry) => entry.name),
      ["fresh.txt", "one.txt", "renamed.txt", "value.json", "x"],
    );
    assert.ok(await fs.exists("sdk/one.txt"));
    await fs.rm("sdk/one.txt");
    assert.equal(await fs.exists("sdk/one.txt"), false);
    await fs.rm("sdk/one.txt", { force: true });
    await assert.rejects(fs.rm("sdk/one.txt"), (error: unknown) => error instanceof FilesystemError && error.code === "ENOENT");
    await assert.rejects(fs.rm("sdk/x"), { code: "ENOTEMPTY" });
    await fs.rm("sdk", { recursive: true });
    assert.equal(await fs.exists("sdk"), false);
    await assert.rejects(fs.writeFile("/etc/hostname", "x"), { code: "EACCES", path: "/etc/hostname" });
  });

  test("a rename to another file system moves as mv does", LIMIT, async () => {
    await run("mkdir -p /mnt; mount -t tmpfs -o mode=777 none /mnt", "root");
    await run(
      "mkdir -p mv/a/b; echo x > mv/a/b/file; chmod 701 mv/a; ln -s b mv/a/link; ln mv/a/b/file mv/a/again; mkdir -p mv/full; touch mv/full/x mv/file",
    );
    const move = (source: string, dest: string) => post("rename", { source, dest, workingDir: "/home/sprite/mv" });
    assert.deepEqual(await (await move("a", "/mnt/moved")).json(), { source: home("mv/a"), dest: "/mnt/moved" });
    assert.equal(
      await run("cat /mnt/moved/b/file; readlink /mnt/moved/link; stat -c '%a %U' /mnt/moved; stat -c %h /mnt/moved/again; ls mv"),
      "x\nb\n701 sprite\n2\nfile\nfull",
    );
    assert.deepEqual(await refusal(move("/mnt/moved", "full")), [409, "ENOTEMPTY"]);
    assert.deepEqual(await refusal(move("/mnt/moved", "file")), [400, "ENOTDIR"]);
    assert.equal((await move("/mnt/moved/b/file", "file")).status, 200);
    assert.equal(await run("ls mv/full /mnt"), "/mnt:\nmoved\n\nmv/full:\nx");
    assert.equal(await run("cat mv/file; ls /mnt/moved/b"), "x");
  });

  test("a full disk ends an upload at once, and leaves the file as it was", LIMIT, async () => {
    await run("mkdir -p /home/small; mount -t tmpfs -o size=1m,mode=777 none /home/small", "root");
    await put("path=/home/small/file", "old");
    const answer = await put("path=/home/small/file&large=true", new Uint8Array(8 * 1024 * 1024));
    assert.deepEqual([answer.status, ((await answer.json()) as { errno: string }).errno], [507, "ENOSPC"]);
    assert.equal(await run("cat /home/small/file; ls -A /home/small"), "oldfile");
  });

  test("nothing of the user's own programs is needed", LIMIT, async () => {
    const fs = suite.server.sdk("/");
    await run("mount -t tmpfs none /usr", "root");
    await assert.rejects(run("true"));
    await fs.writeFile("/home/sprite/rescue", "saved");
    assert.equal(await fs.readFile("/home/sprite/rescue", "utf8"), "saved");
    assert.deepEqual(await fs.readdir("/usr"), []);
    await fs.chown("/home/sprite/rescue", { gid: "wheel" });
  });
});
