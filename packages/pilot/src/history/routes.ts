import { HobError, restorePathRequest, type TreeDiffLine, toHobError, treeContentQuery, treeDiffQuery, treeListQuery } from "@hob/protocol";
import type { HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import { answerList } from "../files/list.ts";
import type { FileOperations } from "../files/operations.ts";
import { bodyParameters, type FilesContext, queryParameters } from "../files/parameters.ts";
import { sendContent } from "../files/read.ts";
import { FileError } from "../helper/index.ts";
import { diffTrees, normalPath } from "./diff.ts";
import { restorePath } from "./restore-path.ts";
import type { CheckpointTrees } from "./trees.ts";

export interface HistoryParts {
  trees: CheckpointTrees;
  operations: FileOperations;
}

/** `docs/api/history.md` */
export function historyRoutes(parts: HistoryParts): Hono {
  const { trees, operations } = parts;
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.get("/checkpoints/diff", (c) => diff(c, trees));
  app.get("/checkpoints/:id/files", async (c) => {
    const { path, recursive } = queryParameters(c, treeListQuery, "list a checkpoint");
    const absolute = normalPath(path);
    await using tree = await trees.open(c.req.param("id"));
    const request = {
      operation: "list",
      path: absolute,
      root: tree.inside,
      asRoot: true,
      flags: { recursive: isTrue(recursive) },
    } as const;
    return await translated(operations.during(c.env.outgoing, request, (entries) => answerList(c, entries, absolute)));
  });
  app.get("/checkpoints/:id/content", async (c) => {
    const { path } = queryParameters(c, treeContentQuery, "read a file of a checkpoint");
    await using tree = await trees.open(c.req.param("id"));
    const request = { operation: "read", path: normalPath(path), root: tree.inside, asRoot: true } as const;
    return await translated(
      operations.during(c.env.outgoing, request, async (content) => sendContent(c, content, await content.info().catch(noContent), false)),
    );
  });
  app.post("/checkpoints/:id/restore-path", async (c) => {
    const { path } = await bodyParameters(c, restorePathRequest, "restore a path");
    await using tree = await trees.open(c.req.param("id"));
    return c.json(await translated(restorePath(operations, tree, path)));
  });
  return app as unknown as Hono;
}

const isTrue = (flag: string | undefined): boolean => flag === "true" || flag === "1";

/** Checkpoints that are not there are refused with a status; what fails later is the last line. */
async function diff(c: FilesContext, trees: CheckpointTrees): Promise<Response> {
  const { from, to, path, text } = queryParameters(c, treeDiffQuery, "compare checkpoints");
  normalPath(path);
  const before = await trees.open(from);
  const after = await trees.open(to).catch(async (error) => {
    await before[Symbol.asyncDispose]();
    throw error;
  });
  c.header("Content-Type", "application/x-ndjson");
  return stream(c, async (lines) => {
    const gone = new AbortController();
    lines.onAbort(() => gone.abort());
    const write = (line: TreeDiffLine) => lines.write(`${JSON.stringify(line)}\n`);
    try {
      let count = 0;
      for await (const difference of diffTrees(before, after, { path, text: isTrue(text), signal: gone.signal })) {
        await write(difference);
        count++;
      }
      await write({ type: "complete", count });
    } catch (thrown) {
      const { message, code, hint } = toHobError(thrown);
      if (!gone.signal.aborted) await write({ type: "error", error: message, code, ...(hint === undefined ? {} : { hint }) });
    } finally {
      await before[Symbol.asyncDispose]();
      await after[Symbol.asyncDispose]();
    }
  });
}

/** Files are read, and nothing else: a pipe would wait for a writer that does not exist any more. */
function noContent(thrown: unknown): never {
  const isOther = thrown instanceof FileError && (thrown.errno === "EINVAL" || thrown.errno === "EISDIR");
  throw isOther ? new HobError("invalid_request", `${thrown.path}: this is no regular file`) : thrown;
}

/** An errno of the sprite's kernel as an error of the catalogue. */
async function translated<T>(work: Promise<T>): Promise<T> {
  return work.catch((thrown: unknown) => {
    if (!(thrown instanceof FileError)) throw thrown;
    const code = CODES[thrown.errno] ?? "invalid_request";
    throw new HobError(code, `${thrown.path}: ${thrown.message}`, { details: { errno: thrown.errno } });
  });
}

const CODES: Readonly<Record<string, "not_found" | "conflict" | "no_space" | "internal">> = {
  ENOENT: "not_found",
  ENOTDIR: "not_found",
  EBUSY: "conflict",
  ETXTBSY: "conflict",
  ENOSPC: "no_space",
  EDQUOT: "no_space",
  EIO: "internal",
};
