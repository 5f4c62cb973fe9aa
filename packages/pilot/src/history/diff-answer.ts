import { HobError, type TreeDiffLine, toHobError, treeDiffQuery } from "@hob/protocol";
import { stream } from "hono/streaming";
import { type FilesContext, isTrue, queryParameters } from "../files/parameters.ts";
import type { HelperClient } from "../helper/index.ts";
import { Comparer, type DiffProgress } from "./comparer.ts";
import { diffTrees, normalPath } from "./diff.ts";
import type { CheckpointTrees, OpenTree } from "./trees.ts";

export interface DiffParts {
  trees: Pick<CheckpointTrees, "open" | "changes">;
  helper: Pick<HelperClient, "compare">;
  /** between two lines that say how far it is; default 1,000 */
  progressMs?: number;
}

interface Question {
  path: string;
  text: boolean;
  signal: AbortSignal;
  progress: DiffProgress;
}

/** Checkpoints that are not there are refused with a status; what fails later is the last line. */
export async function answerDiff(c: FilesContext, parts: DiffParts): Promise<Response> {
  const { from, to, path, text, progress } = queryParameters(c, treeDiffQuery, "compare checkpoints");
  normalPath(path);
  await using opened = new AsyncDisposableStack();
  const before = opened.use(await parts.trees.open(from));
  const after = opened.use(await parts.trees.open(to));
  const inUse = opened.move();
  c.header("Content-Type", "application/x-ndjson");
  return stream(c, async (lines) => {
    const gone = new AbortController();
    const giveUp = () => gone.abort();
    // Who went while the checkpoints were being mounted is told of no more.
    if (c.env.outgoing.destroyed) giveUp();
    lines.onAbort(giveUp);
    const write = (line: TreeDiffLine) => lines.write(`${JSON.stringify(line)}\n`);
    const question = { path, text: isTrue(text), signal: gone.signal, progress: { paths: 0, bytes: 0 } };
    const telling = isTrue(progress) ? tellProgress(question.progress, write, parts.progressMs) : undefined;
    try {
      const last = await writeAll(parts, [before, after], question, write).catch(errorLine);
      // What is still being written waits for a client that reads: nothing may come behind the last line meanwhile.
      clearInterval(telling);
      if (!gone.signal.aborted) await write(last);
    } finally {
      await inUse.disposeAsync();
    }
  });
}

function errorLine(thrown: unknown): TreeDiffLine {
  const { message, code, hint } = toHobError(thrown);
  return { type: "error", error: message, code, ...(hint === undefined ? {} : { hint }) };
}

type Write = (line: TreeDiffLine) => Promise<unknown>;

/** Writes all lines but the last. @returns that */
async function writeAll(
  { trees, helper }: DiffParts,
  [before, after]: readonly [OpenTree, OpenTree],
  question: Question,
  write: Write,
): Promise<TreeDiffLine> {
  const { signal, progress } = question;
  using comparison = await helper.compare();
  const end = () => comparison[Symbol.dispose]();
  signal.addEventListener("abort", end, { once: true });
  signal.throwIfAborted();
  using over = new DisposableStack();
  const done = over.adopt(new AbortController(), (controller) => controller.abort());
  const changes = () => trees.changes(before, after, AbortSignal.any([signal, done.signal]));
  const comparer = new Comparer({ comparison, changes, progress });
  let count = 0;
  try {
    for await (const difference of diffTrees(before, after, { ...question, comparer })) {
      requireThere(before, after);
      await write(difference);
      count++;
    }
  } finally {
    requireThere(before, after);
  }
  return { type: "complete", count };
}

/** What is deleted is unmounted, whoever looks at it: its paths are missing then, which is no difference. */
function requireThere(...trees: readonly OpenTree[]): void {
  const deleted = trees.find((tree) => !tree.isThere());
  if (deleted === undefined) return;
  throw new HobError("conflict", `compare checkpoints: ${deleted.id} was deleted meanwhile`, {
    hint: "compare with a checkpoint that is there",
  });
}

/** Nothing is said while nothing goes on, so that a connection that carries nothing is noticed as such. */
function tellProgress(progress: DiffProgress, write: Write, everyMs = 1_000): NodeJS.Timeout {
  let told = { ...progress };
  let isWriting = false;
  return setInterval(async () => {
    if (isWriting || (told.paths === progress.paths && told.bytes === progress.bytes)) return;
    told = { ...progress };
    isWriting = true;
    await write({ type: "progress", ...told });
    isWriting = false;
  }, everyMs).unref();
}
