import { HobError, restorePathRequest, treeContentQuery, treeListQuery } from "@hob/protocol";
import type { HttpBindings } from "@hono/node-server";
import { Hono } from "hono";
import { answerList } from "../files/list.ts";
import type { FileOperations } from "../files/operations.ts";
import { bodyParameters, isTrue, queryParameters } from "../files/parameters.ts";
import { sendContent } from "../files/read.ts";
import { FileError } from "../helper/index.ts";
import { normalPath } from "./diff.ts";
import { answerDiff, type DiffParts } from "./diff-answer.ts";
import { restorePath } from "./restore-path.ts";
import type { CheckpointTrees } from "./trees.ts";

export interface HistoryParts extends DiffParts {
  trees: CheckpointTrees;
  operations: FileOperations;
}

/** `docs/api/history.md` */
export function historyRoutes(parts: HistoryParts): Hono {
  const { trees, operations } = parts;
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.get("/checkpoints/diff", (c) => answerDiff(c, parts));
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
