import type { BigIntStats } from "node:fs";
import { join } from "node:path";
import { HISTORY_LIMITS, HobError, type TreeDifference } from "@hob/protocol";
import { createTwoFilesPatch } from "diff";
import { ID_MAP } from "../container/ids.ts";
import { PLAIN_DIRECTORIES } from "../container/spec.ts";
import { treeAt } from "../volume/volume.ts";
import { presentAttributes } from "./attributes.ts";
import { type BytePath, compareTrees, type Difference, pathOf, type Side } from "./compare-trees.ts";
import type { Comparer, DiffProgress } from "./comparer.ts";
import { readText } from "./content.ts";
import type { OpenTree } from "./trees.ts";

export interface DiffOptions {
  /** absolute; only this and what is below */
  path: string;
  text: boolean;
  comparer: Pick<Comparer, "sameContent" | "attributes">;
  progress: DiffProgress;
  signal?: AbortSignal;
}

/** Beyond this the lines of two texts have so little in common that a diff is of no use; and it bounds the work. */
const TEXT_EDITS_MAX = 20_000;
const TEXT_TIMEOUT_MS = 2_000;

/** What the container sees at `target`, as it was on both sides. */
interface Pair {
  readonly target: string;
  readonly before: Side;
  readonly after: Side;
}

/** All differences below a path, with the folders of the volume that are mounted beside the overlay. */
export async function* diffTrees(
  from: Pick<OpenTree, "root" | "volume">,
  to: Pick<OpenTree, "root" | "volume">,
  options: DiffOptions,
): AsyncGenerator<TreeDifference> {
  const { comparer, progress, signal } = options;
  const onLook = () => void progress.paths++;
  const wanted = normalPath(options.path);
  for (const pair of pairsBelow(pairsOf(from, to), wanted)) {
    const top = wanted.startsWith(`${pair.target}/`) || pair.target === "/" ? relativeTo(pair.target, wanted) : "";
    const compared = { comparer, onLook, signal, top: Buffer.from(top).toString("latin1") };
    for await (const difference of compareTrees(pair.before, pair.after, compared)) {
      yield await present(pair, difference, options.text);
    }
  }
}

/** @throws HobError `invalid_request` */
export function normalPath(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (!path.startsWith("/") || parts.includes("..") || path.includes("\0")) {
    throw new HobError("invalid_request", "parameter path: an absolute path without '..' is needed");
  }
  return `/${parts.join("/")}`;
}

function pairsOf(from: Pick<OpenTree, "root" | "volume">, to: Pick<OpenTree, "root" | "volume">): Pair[] {
  const rootOf = ({ root, volume }: Pick<OpenTree, "root" | "volume">): Side => ({ merged: root, upper: treeAt(volume).upper });
  const plain = PLAIN_DIRECTORIES.map(({ name, target }) => {
    const sideOf = ({ volume }: Pick<OpenTree, "volume">): Side => ({ merged: join(volume, name), upper: join(volume, name) });
    return { target, before: sideOf(from), after: sideOf(to) };
  });
  return [{ target: "/", before: rootOf(from), after: rootOf(to) }, ...plain];
}

/** A path in a folder that is mounted beside the overlay is there and nowhere else. */
function pairsBelow(pairs: readonly Pair[], wanted: string): Pair[] {
  const within = pairs.find(({ target }) => target !== "/" && (wanted === target || wanted.startsWith(`${target}/`)));
  if (within !== undefined) return [within];
  const prefix = wanted === "/" ? "/" : `${wanted}/`;
  return pairs.filter(({ target }) => target === "/" || target.startsWith(prefix));
}

const relativeTo = (target: string, path: string): string => path.slice(target === "/" ? 1 : target.length + 1);

async function present(pair: Pair, { path, change, before, after, attributes }: Difference, withText: boolean): Promise<TreeDifference> {
  const shown = join(pair.target, Buffer.from(path, "latin1").toString("utf8"));
  const plain: TreeDifference = { type: "entry", path: shown, change, before: stateOf(before), after: stateOf(after) };
  const line = attributes.length === 0 ? plain : { ...plain, attributes: presentAttributes(attributes) };
  if (!withText || !(before?.isFile() || after?.isFile())) return line;
  if ((before !== undefined && !before.isFile()) || (after !== undefined && !after.isFile())) return line;
  const text = await textOf(pair, path, shown, { before, after });
  return text === undefined ? { ...line, binary: true } : text === "" ? line : { ...line, text };
}

/** Undefined when it is no text, or too large, or too different. */
async function textOf(
  pair: Pair,
  path: BytePath,
  shown: string,
  { before, after }: Pick<Difference, "before" | "after">,
): Promise<string | undefined> {
  const read = async (side: Side, stat: BigIntStats | undefined) =>
    stat === undefined ? "" : readText(pathOf(side.merged, path), HISTORY_LIMITS.textBytes);
  const [old, now] = [await read(pair.before, before), await read(pair.after, after)];
  if (old === undefined || now === undefined) return undefined;
  if (old === now) return "";
  const limits = { context: 3, timeout: TEXT_TIMEOUT_MS, maxEditLength: TEXT_EDITS_MAX };
  const names = [before === undefined ? "/dev/null" : `a${shown}`, after === undefined ? "/dev/null" : `b${shown}`] as const;
  const patch = createTwoFilesPatch(...names, old, now, undefined, undefined, limits);
  return patch?.replace(/^=+\n/, "");
}

function stateOf(stat: BigIntStats | undefined): TreeDifference["before"] {
  if (stat === undefined) return null;
  return {
    kind: kindOf(stat),
    size: Number(stat.size),
    mode: Number(stat.mode & 0o7777n)
      .toString(8)
      .padStart(4, "0"),
    uid: Number(stat.uid) - ID_MAP.firstId,
    gid: Number(stat.gid) - ID_MAP.firstId,
    mtime: new Date(Math.min(Math.max(Number(stat.mtimeMs), 0), LAST_DATE_MS)).toISOString(),
  };
}

/** What RFC 3339 can express. */
const LAST_DATE_MS = Date.UTC(9999, 11, 31);

function kindOf(stat: BigIntStats): NonNullable<TreeDifference["before"]>["kind"] {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isFIFO()) return "fifo";
  if (stat.isSocket()) return "socket";
  return stat.isBlockDevice() ? "block" : "character";
}
