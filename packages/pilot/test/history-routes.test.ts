import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { pino } from "pino";
import { withErrorAnswers } from "../src/api/server.ts";
import type { FileOperations } from "../src/files/operations.ts";
import { FileError, type FileStream, type HelperClient } from "../src/helper/index.ts";
import type { DiffParts } from "../src/history/diff-answer.ts";
import { type HistoryParts, historyRoutes } from "../src/history/routes.ts";
import type { CheckpointTrees } from "../src/history/trees.ts";

test("what is no regular file is said to be none, and the checkpoint is given back", async () => {
  let [errno, open] = [0, 0];
  const trees = {
    open: async () => {
      open++;
      return { inside: "/.sprite/checkpoints/v1", [Symbol.asyncDispose]: async () => void open-- };
    },
  } as unknown as CheckpointTrees;
  const stream = { info: () => Promise.reject(new FileError(errno, "/home/pipe")) } as unknown as FileStream;
  const operations = {
    during: (_response: unknown, _request: unknown, use: (stream: FileStream) => unknown) => use(stream),
  } as unknown as FileOperations;
  const app = withErrorAnswers(historyRoutes({ trees, operations, helper: {} as HelperClient }), pino({ level: "silent" }));
  const ask = async () => {
    const answer = await app.request("/checkpoints/v1/content?path=/home/pipe", {}, { outgoing: {} });
    return [answer.status, ((await answer.json()) as { message: string }).message, open];
  };
  for (const other of [constants.errno.EINVAL, constants.errno.EISDIR]) {
    errno = other;
    assert.deepEqual(await ask(), [400, "/home/pipe: this is no regular file", 0]);
  }
  errno = constants.errno.ENOENT;
  assert.deepEqual(await ask(), [404, "/home/pipe: no such file or directory", 0]);
});

describe("a comparison of two checkpoints", { timeout: 30_000 }, () => {
  /** Two checkpoints with a file that has to be read, which `sameContent` does. */
  function answering(sameContent: (onRead: (bytes: number) => void) => Promise<boolean>) {
    const base = mkdtempSync(join(tmpdir(), "hob-history-"));
    const seen: string[] = [];
    const deleted = new Set<string>();
    const treeOf = (id: string) => {
      const [root, volume] = [join(base, id, "root"), join(base, id, "volume")];
      for (const folder of [root, join(volume, "root-upper/upper")]) {
        mkdirSync(folder, { recursive: true });
        writeFileSync(join(folder, "large"), id);
        utimesSync(join(folder, "large"), 1, 1);
      }
      const isThere = () => !deleted.has(id);
      const state = { thin: 1, origin: null };
      return { id, root, volume, state, isThere, [Symbol.asyncDispose]: async () => void seen.push(`${id} closed`) };
    };
    const remove = (id: string) => {
      deleted.add(id);
      for (const folder of ["root", "volume"]) rmSync(join(base, id, folder), { recursive: true });
    };
    const comparison = {
      attributes: async () => [],
      sameContent: (_one: Buffer, _other: Buffer, _onDevices: boolean, onRead: (bytes: number) => void) => sameContent(onRead),
      [Symbol.dispose]: () => void seen.push("comparison ended"),
    };
    const parts = {
      trees: { open: async (id: string) => treeOf(id), changes: async () => undefined },
      helper: { compare: async () => comparison },
      progressMs: 1,
    } as unknown as DiffParts;
    const app = historyRoutes({ ...parts, operations: {} as FileOperations } as HistoryParts);
    const ask = (query: string, outgoing: object = {}) => app.request(`/checkpoints/diff?from=v1&to=v2${query}`, {}, { outgoing });
    return { seen, ask, remove, [Symbol.dispose]: () => rmSync(base, { recursive: true }) };
  }
  const typesOf = (text: string) =>
    text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).type as string);

  test("says how far it is, if that was asked for", async () => {
    const told = Promise.withResolvers<boolean>();
    using asked = answering((onRead) => {
      onRead(5);
      return told.promise;
    });
    const answer = await asked.ask("&progress=true");
    const lines = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    const read = async () => (await lines?.read())?.value;
    let seen = "";
    while (!seen.includes('"bytes":5')) seen += (await read()) ?? assert.fail(seen);
    assert.match(seen, /\{"type":"progress","paths":2,"bytes":5\}\n$/);
    told.resolve(false);
    let rest = "";
    for (let text = await read(); text !== undefined; text = await read()) rest += text;
    assert.deepEqual(
      typesOf(rest).filter((type) => type !== "progress"),
      ["entry", "complete"],
    );
    assert.deepEqual(asked.seen.sort(), ["comparison ended", "v1 closed", "v2 closed"]);
    using plain = answering(async () => true);
    assert.deepEqual(typesOf(await (await plain.ask("")).text()), ["complete"]);
  });

  const turns = async (count: number) => {
    for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
  };

  test("says nothing behind its last line, and little to whom does not read", async (context) => {
    context.mock.timers.enable({ apis: ["setInterval"] });
    const told = Promise.withResolvers<boolean>();
    let onRead: (bytes: number) => void = () => {};
    using asked = answering((tell) => {
      onRead = tell;
      return told.promise;
    });
    const answer = await asked.ask("&progress=true");
    await turns(100);
    for (let bytes = 1; bytes <= 100; bytes++) {
      onRead(bytes);
      context.mock.timers.tick(1);
      await turns(1);
    }
    onRead(1_000);
    told.resolve(false);
    const lines = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes('"entry"')) text += (await lines?.read())?.value ?? assert.fail(text);
    await turns(100);
    context.mock.timers.tick(1);
    await turns(1);
    for (let next = await lines?.read(); next?.value !== undefined; next = await lines?.read()) text += next.value;
    const types = typesOf(text);
    assert.deepEqual([types.at(-1), types.filter((type) => type !== "progress")], ["complete", ["entry", "complete"]]);
    assert.ok(types.length < 10, text);
  });

  test("is none with a checkpoint that is deleted meanwhile: what is missing then is no difference", async () => {
    for (const fail of [false, true]) {
      using asked = answering(async () => {
        asked.remove("v1");
        if (fail) throw new HobError("helper_failed", "compare files: No such file or directory");
        return false;
      });
      const line = JSON.parse(await (await asked.ask("")).text());
      assert.deepEqual([line.type, line.code, line.error], ["error", "conflict", "compare checkpoints: v1 was deleted meanwhile"]);
      assert.deepEqual(asked.seen.sort(), ["comparison ended", "v1 closed", "v2 closed"]);
    }
  });

  test("ends when who asked has gone, in the middle of a file and before it begins", async () => {
    const begun = Promise.withResolvers<void>();
    const read = Promise.withResolvers<boolean>();
    using asked = answering(() => {
      begun.resolve();
      return read.promise;
    });
    const answer = await asked.ask("");
    await begun.promise;
    await answer.body?.cancel();
    assert.deepEqual(asked.seen, ["comparison ended"]);
    read.reject(new Error("its connection ended"));
    for (let turn = 0; asked.seen.length < 4 && turn < 1_000; turn++) await new Promise(setImmediate);
    assert.deepEqual(asked.seen.sort(), ["comparison ended", "comparison ended", "v1 closed", "v2 closed"]);
    using late = answering(async () => assert.fail("nothing is read"));
    assert.equal(await (await late.ask("", { destroyed: true })).text(), "");
    assert.deepEqual(late.seen.filter((event) => event.endsWith("closed")).sort(), ["v1 closed", "v2 closed"]);
  });
});
