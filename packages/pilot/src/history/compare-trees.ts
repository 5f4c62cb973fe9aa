import type { BigIntStats } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { HobError } from "@hob/protocol";
import type { AttributeDifference } from "../helper/index.ts";
import type { Comparer } from "./comparer.ts";
import { sameLink } from "./content.ts";

/** One of two trees that are compared: as it is seen, and the part of it that is the sprite's own. */
export interface Side {
  readonly merged: string;
  /** upper folder of overlayfs(5), or the same as `merged` where there is none */
  readonly upper: string;
}

/** Paths are latin1 text: each character is a byte, whatever the name is made of. */
export type BytePath = string;

export interface Difference {
  /** relative, "" is the top */
  readonly path: BytePath;
  readonly change: "added" | "removed" | "changed" | "type";
  readonly before: BigIntStats | undefined;
  readonly after: BigIntStats | undefined;
  /** extended ones that differ, of what both sides have */
  readonly attributes: readonly AttributeDifference[];
}

export interface CompareOptions {
  comparer: Pick<Comparer, "sameContent" | "attributes">;
  /** only this and what is below */
  top?: BytePath;
  /** told each path that is looked at */
  onLook?: () => void;
  signal?: AbortSignal | undefined;
}

/** Directories inside each other that are looked into. */
const DEPTH_MAX = 1_000;

export const pathOf = (base: string, path: BytePath): Buffer =>
  Buffer.concat([Buffer.from(base), Buffer.from(path === "" ? "" : `/${path}`, "latin1")]);
const below = (path: BytePath, name: BytePath): BytePath => (path === "" ? name : `${path}/${name}`);

async function statOf(base: string, path: BytePath): Promise<BigIntStats | undefined> {
  return lstat(pathOf(base, path), { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR" || error.code === "ENAMETOOLONG") return undefined;
    throw error;
  });
}

async function namesOf(base: string, path: BytePath): Promise<Set<BytePath>> {
  const names = await readdir(pathOf(base, path), { encoding: "latin1" }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR" || error.code === "ENAMETOOLONG") return [];
    throw error;
  });
  return new Set(names);
}

/**
 * Differences between two trees over the same layers, a directory before what is in it. Both are snapshots: they do not
 * change, so what is a directory now still is one when what is in it is looked at. A side is only followed through
 * directories: where it has a link, or anything else, it has nothing below.
 *
 * An entry that is in neither upper folder comes from the layers on both sides, and is the same: only what a side has of
 * its own, or what only one side shows, is looked at. So the time grows with what was changed since the sprite was made,
 * and not with all that is in it. overlayfs.rst, "whiteouts and opaque directories"
 *
 * @throws HobError `invalid_request` if `top` leads through a symbolic link, `not_found` if neither side has it
 */
export async function* compareTrees(before: Side, after: Side, options: CompareOptions): AsyncGenerator<Difference> {
  const { top = "" } = options;
  let sides: Sides = [before, after];
  const parts = top.split("/");
  for (let length = 0; top !== "" && length < parts.length; length++) {
    const path = parts.slice(0, length).join("/");
    const stats = await statsOf(sides, path);
    if (stats.some((stat) => stat?.isSymbolicLink())) {
      throw new HobError("invalid_request", "compare checkpoints: the path leads through a symbolic link", {
        hint: "name the path that it leads to",
      });
    }
    sides = directoriesOf(sides, stats);
  }
  if (top !== "" && (await statsOf(sides, top)).every((stat) => stat === undefined)) {
    throw new HobError("not_found", "compare checkpoints: neither of them has this path");
  }
  yield* compareEntry(sides, top, 0, options);
}

/** A side that has no directory there is left out. */
type Sides = readonly [before: Side | undefined, after: Side | undefined];
type Stats = readonly [before: BigIntStats | undefined, after: BigIntStats | undefined];

const statsOf = async ([before, after]: Sides, path: BytePath, of: keyof Side = "merged"): Promise<Stats> => [
  before && (await statOf(before[of], path)),
  after && (await statOf(after[of], path)),
];

const directoriesOf = ([before, after]: Sides, [one, other]: Stats): Sides => [
  one?.isDirectory() ? before : undefined,
  other?.isDirectory() ? after : undefined,
];

async function* compareEntry(sides: Sides, path: BytePath, depth: number, options: CompareOptions): AsyncGenerator<Difference> {
  options.signal?.throwIfAborted();
  options.onLook?.();
  const stats = await statsOf(sides, path);
  const found = await changeOf(sides, path, stats, options);
  if (found !== undefined) yield { path, before: stats[0], after: stats[1], attributes: [], ...found };
  if (depth >= DEPTH_MAX) return;
  const inside = directoriesOf(sides, stats);
  for (const name of await namesToCompare(inside, path)) yield* compareEntry(inside, below(path, name), depth + 1, options);
}

async function namesToCompare([before, after]: Sides, path: BytePath): Promise<BytePath[]> {
  const namesIn = async (side: Side | undefined, of: keyof Side) => (side === undefined ? new Set<BytePath>() : namesOf(side[of], path));
  const [seenBefore, seenAfter] = [await namesIn(before, "merged"), await namesIn(after, "merged")];
  const [ownBefore, ownAfter] = [await namesIn(before, "upper"), await namesIn(after, "upper")];
  const seen = new Set([...seenBefore, ...seenAfter]);
  const isOfOneSide = (name: BytePath) => seenBefore.has(name) !== seenAfter.has(name);
  return [...seen].filter((name) => ownBefore.has(name) || ownAfter.has(name) || isOfOneSide(name)).sort();
}

type Change = Pick<Difference, "change"> & Partial<Pick<Difference, "attributes">>;

async function changeOf(sides: Sides, path: BytePath, stats: Stats, { comparer }: CompareOptions): Promise<Change | undefined> {
  const [[one, other], [before, after]] = [sides, stats];
  if (before === undefined || one === undefined) return after === undefined ? undefined : { change: "added" };
  if (after === undefined || other === undefined) return { change: "removed" };
  if ((before.mode & TYPE) !== (after.mode & TYPE)) return { change: "type" };
  const own = await statsOf(sides, path, "upper");
  if (isUntouched(own)) return undefined;
  const attributes = await comparer.attributes(pathOf(one.merged, path), pathOf(other.merged, path));
  const pair: Pair = { sides: [one, other], path, seen: [before, after], own };
  return attributes.length === 0 && (await isEqual(pair, comparer)) ? undefined : { change: "changed", attributes };
}

const TYPE = 0o170000n;

/** What both sides have, of the same kind. */
interface Pair {
  readonly sides: readonly [Side, Side];
  readonly path: BytePath;
  readonly seen: readonly [BigIntStats, BigIntStats];
  /** what their upper folders have */
  readonly own: Stats;
}

/** The same file of the same file system, not touched since: nothing of it needs to be read. */
function isUntouched([one, other]: Stats): boolean {
  if (one === undefined || other === undefined) return false;
  return one.ino === other.ino && one.ctimeNs === other.ctimeNs && one.size === other.size && one.mode === other.mode;
}

async function isEqual({ sides, path, seen: [one, other], own }: Pair, comparer: CompareOptions["comparer"]): Promise<boolean> {
  if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return false;
  // Size and time of a directory follow from what is in it.
  if (one.isDirectory()) return true;
  if (one.isCharacterDevice() || one.isBlockDevice()) return one.rdev === other.rdev;
  const pathsOf = (of: keyof Side): [Buffer, Buffer] => [pathOf(sides[0][of], path), pathOf(sides[1][of], path)];
  if (one.isSymbolicLink()) return sameLink(...pathsOf("merged"));
  if (!one.isFile()) return true;
  if (one.size !== other.size || one.mtimeNs !== other.mtimeNs) return false;
  // Of what lies in both upper folders, it is known where on the device it is.
  const onDevices = own.every((stat) => stat?.isFile() === true);
  const [first, second] = pathsOf(onDevices ? "upper" : "merged");
  return await comparer.sameContent({ one: first, other: second, sizeBytes: Number(one.size), onDevices });
}
