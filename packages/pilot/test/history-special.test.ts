import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import type { FileOperations } from "../src/files/index.ts";
import type { FileOperationRequest } from "../src/files/operations.ts";
import { FileError } from "../src/helper/index.ts";
import { perform } from "../src/history/entries.ts";
import { restorePath } from "../src/history/restore-path.ts";
import type { OpenTree } from "../src/history/trees.ts";
import { containerUnavailable } from "./support/container.ts";
import { FilesInContainer } from "./support/files-in-container.ts";

const LIMIT = { timeout: 120_000 };
const ROOT = "/home/sprite/checkpoint";
const HOME = "/home/sprite";
const TREE = { id: "v1", inside: ROOT } as OpenTree;

describe("a path that is put back", { skip: containerUnavailable() ?? false }, () => {
  const files = new FilesInContainer();
  const { run } = files;
  const refused = (code: string, words: RegExp) => (error: unknown) =>
    error instanceof HobError && error.code === code && words.test(error.message);

  test("has what several names share put back as one file, and its pipes and sockets", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/shared`, `${HOME}/shared`];
    await run(`mkdir -p ${then}/a/b ${then}/c ${now}/c && cd ${then} && echo one > a/b/first && ln a/b/first c/second && ln a/b/first third && chmod 640 third &&
      echo own > c/own && ln c/own ${ROOT}${HOME}/outside && ln -s x link && ln link c/link && mkfifo pipe && ln pipe c/pipe &&
      echo mine > ${now}/third && ln ${now}/third ${now}/c/other && echo live > ${now}/c/own &&
      perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un($ARGV[0])) or die; chmod 0620, $ARGV[0]' ${then}/c/socket`);
    const done = await restorePath(files.operations, TREE, now);
    assert.deepEqual([done.count, done.bytes, done.leftOut], [13, 8, []], "what is linked is not copied again");
    const inodes = (names: string) => run(`cd ${now} && stat -c '%i' ${names} | sort -u | wc -l`);
    assert.deepEqual(
      [await inodes("a/b/first c/second third"), await inodes("link c/link"), await inodes("pipe c/pipe"), await inodes("third c/own")],
      ["1", "1", "1", "2"],
    );
    assert.equal(
      await run(`cd ${now} && stat -c '%n %h %a %F' third c/own c/socket && cat third && echo more >> third && cat a/b/first && ls c`),
      [
        ...["third 3 640 regular file", "c/own 1 644 regular file", "c/socket 1 620 socket", "one", "one", "more"],
        ...["link", "own", "pipe", "second", "socket"],
      ].join("\n"),
    );
    await restorePath(files.operations, TREE, `${now}/third`);
    assert.equal(await run(`cd ${now} && cat third c/second`), "one\none\nmore");
    assert.equal((await restorePath(files.operations, TREE, `${now}/c/socket`)).replaced, true);
  });

  test("says which devices are left out, and takes none that is there", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/devices`, `${HOME}/devices`];
    await run(`mkdir -p ${then}/sub ${now}/sub && touch ${then}/file`);
    for (const folder of [then, now]) execFileSync("mknod", [join(files.container.root, folder, "sub/null"), "c", "1", "3"]);
    const done = await restorePath(files.operations, TREE, now);
    assert.deepEqual([done.count, done.leftOut], [3, [`${now}/sub/null`]]);
    assert.equal(await run(`cd ${now} && find . | sort && stat -c %F sub/null`), ".\n./file\n./sub\n./sub/null\ncharacter special file");
  });

  test("no operation that is to follow no link does, on either side", LIMIT, async () => {
    await run(`mkdir -p ${HOME}/plain/way && echo x > ${HOME}/plain/way/file && ln -s way ${HOME}/plain/link`);
    const at = (name: string) => `${HOME}/plain/${name}`;
    const flags = { noLinks: true };
    for (const [errno, request] of [
      ["ELOOP", { operation: "copy", path: at("link/file"), destination: at("copy"), flags }],
      ["ELOOP", { operation: "copy", path: at("way/file"), destination: at("link/copy"), flags }],
      ["ELOOP", { operation: "mkdir", path: at("link/new"), flags }],
      ["EINVAL", { operation: "mkdir", path: at("link/new/below"), flags: { ...flags, parents: true } }],
    ] as const) {
      await assert.rejects(
        perform(files.operations, { ...request, asRoot: true }),
        (error) => error instanceof FileError && error.errno === errno,
      );
    }
    assert.equal(await run(`cd ${HOME}/plain && find . | sort`), ".\n./link\n./way\n./way/file");
  });

  test("is put nowhere else when a folder on the way becomes a link meanwhile", LIMIT, async () => {
    const [then, now] = [`${ROOT}${HOME}/swapped`, `${HOME}/swapped`];
    for (const operation of ["copy", "install", "mkdir", "chown", "chmod", "delete"]) {
      await run(`rm -rf ${then} ${now} ${HOME}/victim && mkdir -p ${then}/way/new ${now}/way ${HOME}/victim/new && chmod 700 ${HOME}/victim/new &&
        echo then > ${then}/way/new/file && echo mine > ${HOME}/victim/new/file`);
      const swap = `mv ${now}/way ${now}/moved && ln -s ${HOME}/victim ${now}/way`;
      let isSwapped = false;
      const hostile = {
        start: async (request: FileOperationRequest) => {
          if (request.operation === operation && !isSwapped) {
            isSwapped = true;
            await run(swap);
          }
          return await files.operations.start(request);
        },
      } as FileOperations;
      const restored = restorePath(hostile, TREE, `${now}/way/new/file`);
      if (operation === "delete") assert.equal((await restored).count, 1, "it is only cleaned up after");
      else await assert.rejects(restored, refused("conflict", /has just become a symbolic link/), operation);
      assert.ok(isSwapped, operation);
      assert.equal(
        await run(`cd ${HOME}/victim && find . | sort && cat new/file && stat -c %a new`),
        ".\n./new\n./new/file\nmine\n700",
        operation,
      );
    }
  });
});
