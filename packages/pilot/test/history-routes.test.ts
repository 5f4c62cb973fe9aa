import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { pino } from "pino";
import { withErrorAnswers } from "../src/api/server.ts";
import type { FileOperations } from "../src/files/operations.ts";
import { FileError, type FileStream } from "../src/helper/index.ts";
import { historyRoutes } from "../src/history/routes.ts";
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
  const app = withErrorAnswers(historyRoutes({ trees, operations }), pino({ level: "silent" }));
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
