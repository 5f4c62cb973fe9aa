import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { FileError, type FileRequest } from "../src/helper/index.ts";
import { restorePath } from "../src/history/restore-path.ts";
import type { OpenTree } from "../src/history/trees.ts";
import { containerUnavailable } from "./support/container.ts";
import { FilesInContainer } from "./support/files-in-container.ts";

const LIMIT = { timeout: 120_000 };
const ROOT = "/home/sprite/checkpoint";
const HOME = "/home/sprite";
const TREE = { id: "v1", inside: ROOT } as OpenTree;

describe("a folder of the container as the root of paths", { skip: containerUnavailable() ?? false }, () => {
  const files = new FilesInContainer();
  const { run } = files;
  const list = async (path: string, options: Partial<FileRequest> & { asRoot?: boolean } = {}) => {
    const stream = await files.operations.start({ operation: "list", path, root: ROOT, asRoot: true, ...options });
    try {
      const names: string[] = [];
      const entries = stream.entries();
      for (let next = await entries.next(); ; next = await entries.next()) {
        if (next.done === true) return names.sort();
        names.push(...next.value.map((entry) => entry.path));
      }
    } finally {
      stream.close();
    }
  };
  const fails = (errno: string) => (error: unknown) => error instanceof FileError && error.errno === errno;

  test("is not left, by links and dots neither", LIMIT, async () => {
    await run(`mkdir -p ${ROOT}/etc/app && touch ${ROOT}/etc/app/conf && cd ${ROOT}/etc && ln -s /etc/app absolute && ln -s ../../../../../etc up &&
      ln -s /proc/1 escape`);
    assert.deepEqual(await list("/etc/app"), ["conf"]);
    assert.deepEqual(await list("/etc/absolute"), ["conf"]);
    assert.deepEqual(await list("/etc/up"), ["absolute", "app", "escape", "up"]);
    assert.deepEqual(await list("/../../etc/app"), ["conf"]);
    await assert.rejects(list("/etc/escape/"), fails("ENOENT"));
    await assert.rejects(list("/", { asRoot: false }), fails("EPERM"));
    await assert.rejects(list("/", { root: "/none" }), fails("ENOENT"));
  });

  test("is what a path is put back from, with owner, mode and time, and without what came since", LIMIT, async () => {
    await run(`mkdir -p ${ROOT}${HOME}/srv/app/sub ${HOME}/srv/app && cd ${ROOT}${HOME}/srv/app && echo old > conf && ln -s conf link && chmod 640 conf && chown 1000:1000 conf sub &&
      touch -d @1000000000 conf && echo new > ${HOME}/srv/app/conf && echo more > ${HOME}/srv/app/more`);
    const done = await restorePath(files.operations, TREE, `${HOME}/srv//app/`);
    assert.deepEqual([done.path, done.count, done.replaced], [`${HOME}/srv/app`, 4, true]);
    assert.equal(
      await run(`cd ${HOME}/srv/app && ls -A . .. && cat conf && stat -c '%a %u:%g %Y' conf && readlink link`),
      [".:", "conf", "link", "sub", "", "..:", "app", "old", "640 1000:1000 1000000000", "conf"].join("\n"),
    );
    assert.equal((await restorePath(files.operations, TREE, `${HOME}/srv/app/conf`)).replaced, true);
    await run(
      `chown -h 1000:1000 ${ROOT}${HOME}/srv/app/link && mkfifo -m 620 ${ROOT}${HOME}/srv/app/pipe && chown 1000:5 ${ROOT}${HOME}/srv/app/pipe`,
    );
    await restorePath(files.operations, TREE, `${HOME}/srv/app`);
    assert.equal(await run(`cd ${HOME}/srv/app && stat -c '%a %u:%g' link pipe`), "777 1000:1000\n620 1000:5");
    await run(`chown 1000:1000 ${ROOT}${HOME}/srv/app && chmod 2750 ${ROOT}${HOME}/srv/app && rm -r ${HOME}/srv`);
    assert.equal((await restorePath(files.operations, TREE, `${HOME}/srv/app/conf`)).replaced, false);
    assert.equal(await run(`ls -A ${HOME}/srv/app && stat -c '%a %u:%g' ${HOME}/srv ${HOME}/srv/app`), "conf\n755 0:0\n2750 1000:1000");
  });

  test("gives back capabilities and extended attributes, and takes those that came since, of folders that stay too", LIMIT, async () => {
    // setxattr(2), getxattr(2)
    const set = (path: string, value: string) =>
      `perl -e '($path, $name, $value) = @ARGV; exit(syscall(188, $path, $name, $value, 4, 0) == 0 ? 0 : 1)' ${path} user.note ${value}`;
    const get = (path: string) =>
      `perl -e '($path, $name, $value) = @ARGV; $size = syscall(191, $path, $name, $value, 4); print $size < 0 ? "none" : $value, "\\n"' ${path} user.note none`;
    const [then, now] = [`${ROOT}${HOME}/marked`, `${HOME}/marked`];
    await run(`mkdir -p ${then}/stays ${then}/plain ${now}/stays ${now}/plain && cp /bin/true ${then}/program && /usr/sbin/setcap cap_net_raw+ep ${then}/program &&
      touch ${then}/file && ${set(`${then}/file`, "then")} && ${set(`${then}/stays`, "then")} && ${set(`${now}/stays`, "gone")} && ${set(`${now}/plain`, "gone")}`);
    await restorePath(files.operations, TREE, now);
    assert.equal(
      await run(`/usr/sbin/getcap ${now}/program && ${["file", "stays", "plain"].map((name) => get(`${now}/${name}`)).join(" && ")}`),
      [`${now}/program cap_net_raw=ep`, "then", "then", "none"].join("\n"),
    );
  });

  test("is where the source is, though a link in it seems to lead elsewhere", LIMIT, async () => {
    await run(
      `mkdir -p ${ROOT}${HOME}/opt/real ${HOME}/opt/real && echo then > ${ROOT}${HOME}/opt/real/file && echo now > ${HOME}/opt/real/file && ln -s ${HOME}/opt/real ${ROOT}${HOME}/opt/link && ln -s ${HOME}/opt/real ${HOME}/opt/link`,
    );
    await restorePath(files.operations, TREE, `${HOME}/opt/link/file`);
    assert.equal(await run(`cat ${HOME}/opt/real/file`), "then");
  });

  test("is not put where a link leads that was none, or led elsewhere", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/way`, `${HOME}/way`];
    await run(`mkdir -p ${then}/plain ${then}/real ${now}/real ${now}/target && touch ${then}/plain/file ${then}/real/file &&
      ln -s real ${then}/moved && ln -s target ${now}/moved && ln -s target ${now}/plain`);
    for (const path of [`${now}/plain/file`, `${now}/moved/file`]) {
      await assert.rejects(
        restorePath(files.operations, TREE, path),
        (error) => error instanceof HobError && error.code === "conflict",
        path,
      );
    }
    assert.equal(await run(`ls -A ${now}/target`), "");
    await restorePath(files.operations, TREE, `${now}/plain`);
    assert.equal(await run(`ls -A ${now}/plain && readlink ${now}/plain || echo none`), "file\nnone");
  });

  const refused = (code: string, words: RegExp) => (error: unknown) =>
    error instanceof HobError && error.code === code && words.test(error.message);

  test("is put where a link leads that led there by another text", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/text`, `${HOME}/text`];
    await run(`mkdir -p ${then}/a/real ${now}/a/real && echo old > ${then}/a/real/file && echo new > ${now}/a/real/file &&
      ln -s a/real ${then}/link && ln -s ${now}/a/../a/real/ ${now}/link && ln -s ../../text/link ${then}/a/again && ln -s real ${now}/a/again`);
    await restorePath(files.operations, TREE, `${now}/link/file`);
    assert.equal(await run(`cd ${now} && cat a/real/file && readlink link && echo new > a/real/file`), `old\n${now}/a/../a/real/`);
    await restorePath(files.operations, TREE, `${now}/a/again/file`);
    assert.equal(await run(`cat ${now}/a/real/file`), "old");
  });

  test("is not put where a link of the same text leads elsewhere", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/same`, `${HOME}/same`];
    await run(`mkdir -p ${then}/real ${now}/other && echo old > ${then}/real/file && echo mine > ${now}/other/file &&
      ln -s real ${then}/link && ln -s real ${now}/link && ln -s other ${now}/real`);
    await assert.rejects(
      restorePath(files.operations, TREE, `${now}/link/file`),
      refused("conflict", /same\/link: it leads to .*\/other now/),
    );
    assert.equal(await run(`cat ${now}/other/file; ls -A ${now} ${now}/other`), `mine\n${now}:\nlink\nother\nreal\n\n${now}/other:\nfile`);
  });

  test("has a folder where there was a link put back into the folder, with what the path named", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/reverse`, `${HOME}/reverse`];
    await run(`mkdir -p ${then}/real/sub ${now}/link ${now}/real/sub && chmod 700 ${then}/real/sub && echo old > ${then}/real/sub/file &&
      echo mine > ${now}/real/sub/file && ln -s real ${then}/link`);
    await restorePath(files.operations, TREE, `${now}/link/sub/file`);
    assert.equal(
      await run(`cd ${now} && cat link/sub/file real/sub/file && stat -c %a link/sub && readlink link || echo none`),
      "old\nmine\n700\nnone",
    );
    // The same text of a link leads elsewhere from there.
    await run(`rm -r ${now}/link/sub && ln -s ../real/sub ${now}/link/sub && rm -r ${then}/real/sub && mkdir ${then}/other && touch ${then}/other/file &&
      ln -s ../other ${then}/real/sub`);
    await assert.rejects(restorePath(files.operations, TREE, `${now}/link/sub/file`), refused("conflict", /link\/sub: it leads to/));
    assert.equal(await run(`cat ${now}/real/sub/file`), "mine");
  });

  test("makes no folder in place of a link that is gone, and says so before anything is changed", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/lost`, `${HOME}/lost`];
    await run(
      `mkdir -p ${then}/real/deep ${then}/way && touch ${then}/real/deep/file && ln -s ../real ${then}/way/link && mkdir -p ${now}/real/deep`,
    );
    await assert.rejects(
      restorePath(files.operations, TREE, `${now}/way/link/deep/file`),
      refused("conflict", /way\/link: it was a symbolic link then, and is gone/),
    );
    assert.equal(await run(`find ${now} | sort`), [now, `${now}/real`, `${now}/real/deep`].join("\n"));
    await restorePath(files.operations, TREE, `${now}/way/link`);
    await restorePath(files.operations, TREE, `${now}/way/link/deep/file`);
    assert.equal(await run(`readlink ${now}/way/link; ls ${now}/real/deep`), "../real\nfile");
  });

  test("makes again what a link leads to, where it led, and nothing where it leads elsewhere", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/dangling`, `${HOME}/dangling`];
    await run(`mkdir -p ${then}/a/b/c ${now} && chown 1000:1000 ${then}/a/b && chmod 2770 ${then}/a/b && chmod 711 ${then}/a && touch ${then}/a/b/c/file &&
      for i in same elsewhere out self; do ln -s a/b ${then}/$i; done && cd ${now} && ln -s ./a/b same && ln -s a/x elsewhere && ln -s a/../b out && ln -s self self`);
    await assert.rejects(
      restorePath(files.operations, TREE, `${now}/elsewhere/c/file`),
      refused("conflict", /elsewhere: it leads to .*a\/x now/),
    );
    await assert.rejects(restorePath(files.operations, TREE, `${now}/out/c/file`), refused("conflict", /out: .*leads nowhere/));
    await assert.rejects(restorePath(files.operations, TREE, `${now}/self/c/file`), refused("conflict", /self: .*leads to itself/));
    assert.equal(await run(`ls -A ${now}`), "elsewhere\nout\nsame\nself");
    await restorePath(files.operations, TREE, `${now}/same/c/file`);
    assert.equal(
      await run(`cd ${now} && stat -c '%n %a %u:%g' a a/b a/b/c && ls a/b/c`),
      "a 711 0:0\na/b 2770 1000:1000\na/b/c 755 0:0\nfile",
    );
  });

  test(
    "does not go through what is no folder now, nor to what cannot be restored, and leaves no folder of the way then",
    LIMIT,
    async () => {
      const [then, now] = [`${ROOT}${HOME}/kinds`, `${HOME}/kinds`];
      await run(`mkdir -p ${then}/file/sub ${then}/new/way ${now} && touch ${then}/file/sub/x && echo mine > ${now}/file &&
      ln -s /tmp ${then}/link && ln -s /tmp ${now}/link && mkdir -p ${ROOT}/tmp && touch ${ROOT}/tmp/x`);
      execFileSync("mknod", [join(files.container.root, then, "new/way/null"), "c", "1", "3"]);
      await assert.rejects(
        restorePath(files.operations, TREE, `${now}/file/sub/x`),
        refused("conflict", /kinds\/file: it is no folder now/),
      );
      await assert.rejects(restorePath(files.operations, TREE, `${now}/new/way/null`), refused("invalid_request", /it was a device/));
      await assert.rejects(restorePath(files.operations, TREE, `${now}/link/x`), refused("invalid_request", /\/tmp cannot be restored/));
      assert.equal(await run(`cd ${now} && ls -A && cat file`), "file\nlink\nmine");
    },
  );

  test("leaves no folder of the way when the copy fails", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/full`, `${HOME}/full`];
    await run(
      `mkdir -p ${then}/small/way ${now}/small && head -c 300000 /dev/zero > ${then}/small/way/file && mount -t tmpfs -o size=64k small ${now}/small`,
    );
    await assert.rejects(restorePath(files.operations, TREE, `${now}/small/way/file`), fails("ENOSPC"));
    assert.equal(await run(`ls -A ${now}/small; umount ${now}/small`), "");
  });

  test("names that are patterns are names", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/names`, `${HOME}/names`];
    await run(`mkdir -p '${then}/[a]*?' '${then}/a' ${now} && touch '${then}/[a]*?/\\file'`);
    await restorePath(files.operations, TREE, `${now}/[a]*?/\\file`);
    assert.equal(await run(`cd ${now} && find . | sort`), ".\n./[a]*?\n./[a]*?/\\file");
  });

  test("puts a folder back under those who work in it, and leaves what is mounted there", LIMIT, async () => {
    const live = `${HOME}/work`;
    await run(
      `mkdir -p ${ROOT}${live}/keep/deep ${live}/keep/deep ${live}/keep/mnt ${live}/gone/way/mnt2 ${live}/dir-then-file ${ROOT}${live}/file-then-dir &&
       cd ${ROOT}${live} && echo old > keep/deep/file && echo old > hosts && echo old > file-then-dir/x && echo old > dir-then-file && ln -s keep link && chmod 750 . keep && chown 1000:1000 . &&
       mkdir keep/mnt && echo hidden > keep/mnt/under && touch -d @1000000000 . &&
       cd ${live} && echo new > keep/deep/file && echo extra > keep/deep/extra && echo new > gone/file && echo x > file-then-dir && touch hosts dir-then-file/y mnt3 && mkdir link &&
       mount -t tmpfs mounted keep/mnt && echo mine > keep/mnt/file && mount -t tmpfs mounted gone/way/mnt2 && echo mine > gone/way/mnt2/file && mount --bind keep/mnt/file hosts`,
    );
    const [inode, deep] = (await run(`stat -c %i ${live} ${live}/keep/deep`)).split("\n");
    await run(`(cd ${live}/keep/deep && while [ ! -e ../../../stop ]; do sleep 0.1; done; cat file > ${HOME}/seen) >/dev/null 2>&1 &`);
    const done = await restorePath(files.operations, TREE, live);
    assert.equal(done.replaced, true);
    assert.equal(
      await run(
        `cd ${live} && stat -c %i . keep/deep && stat -c '%a %u:%g %Y' . && find . -not -path './keep/mnt/*' | sort && cat keep/deep/file hosts keep/mnt/file gone/way/mnt2/file file-then-dir/x dir-then-file && readlink link && ls -A ${HOME} | grep hob- | wc -l`,
      ),
      [
        ...[inode, deep, "750 1000:1000 1000000000"],
        ...[
          ".",
          "./dir-then-file",
          "./file-then-dir",
          "./file-then-dir/x",
          "./gone",
          "./gone/way",
          "./gone/way/mnt2",
          "./gone/way/mnt2/file",
        ],
        ...["./hosts", "./keep", "./keep/deep", "./keep/deep/file", "./keep/mnt", "./link"],
        ...["old", "mine", "mine", "mine", "old", "old", "keep", "0"],
      ].join("\n"),
    );
    await run(`touch ${HOME}/stop; for i in $(seq 100); do [ -s ${HOME}/seen ] && break; sleep 0.1; done`);
    assert.equal(await run(`cat ${HOME}/seen`), "old", "a process that worked there sees what was put back");
    await run(`cd ${live} && umount hosts keep/mnt gone/way/mnt2`);
    assert.equal((await restorePath(files.operations, TREE, live)).replaced, true);
    assert.equal(
      await run(`cat ${live}/hosts ${live}/keep/mnt/under; ls ${live}`),
      "old\nhidden\ndir-then-file\nfile-then-dir\nhosts\nkeep\nlink",
    );
  });

  test("what it does not have, and what is elsewhere, stays as it is", LIMIT, async () => {
    await run(`mkdir -p ${HOME}/srv/only && echo x > ${HOME}/srv/only/file`);
    await assert.rejects(restorePath(files.operations, TREE, `${HOME}/srv/only/file`), fails("ENOENT"));
    await assert.rejects(restorePath(files.operations, TREE, "/none/file"), fails("ENOENT"));
    for (const path of ["/", "/tmp/x", "/home/sprite/.local/share/containers", "/proc/1", "relative", "/srv/../etc"]) {
      await assert.rejects(
        restorePath(files.operations, TREE, path),
        (error) => error instanceof HobError && error.code === "invalid_request",
        path,
      );
    }
    assert.equal(await run(`cat ${HOME}/srv/only/file; ls -d /none 2>/dev/null; ls -A ${HOME}/srv/only`), "x\nfile");
  });
});
