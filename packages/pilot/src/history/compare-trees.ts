import type { BigIntStats } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { HobError } from "@hob/protocol";
import { sameContent, sameLink } from "./content.ts";

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
export async function* compareTrees(before: Side, after: Side, top: BytePath = "", signal?: AbortSignal): AsyncGenerator<Difference> {
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
  yield* compareEntry(sides, top, 0, signal);
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

async function* compareEntry(sides: Sides, path: BytePath, depth: number, signal: AbortSignal | undefined): AsyncGenerator<Difference> {
  signal?.throwIfAborted();
  const stats = await statsOf(sides, path);
  const change = await changeOf(sides, path, stats);
  if (change !== undefined) yield { path, change, before: stats[0], after: stats[1] };
  if (depth >= DEPTH_MAX) return;
  const inside = directoriesOf(sides, stats);
  for (const name of await namesToCompare(inside, path)) yield* compareEntry(inside, below(path, name), depth + 1, signal);
}

async function namesToCompare([before, after]: Sides, path: BytePath): Promise<BytePath[]> {
  const namesIn = async (side: Side | undefined, of: keyof Side) => (side === undefined ? new Set<BytePath>() : namesOf(side[of], path));
  const [seenBefore, seenAfter] = [await namesIn(before, "merged"), await namesIn(after, "merged")];
  const [ownBefore, ownAfter] = [await namesIn(before, "upper"), await namesIn(after, "upper")];
  const seen = new Set([...seenBefore, ...seenAfter]);
  const isOfOneSide = (name: BytePath) => seenBefore.has(name) !== seenAfter.has(name);
  return [...seen].filter((name) => ownBefore.has(name) || ownAfter.has(name) || isOfOneSide(name)).sort();
}

async function changeOf(sides: Sides, path: BytePath, [before, after]: Stats): Promise<Difference["change"] | undefined> {
  if (before === undefined) return after === undefined ? undefined : "added";
  if (after === undefined) return "removed";
  if ((before.mode & TYPE) !== (after.mode & TYPE)) return "type";
  if (await isUntouched(sides, path)) return undefined;
  return (await isEqual(sides, path, before, after)) ? undefined : "changed";
}

const TYPE = 0o170000n;

/** The same file of the same file system, not touched since: nothing of it needs to be read. */
async function isUntouched(sides: Sides, path: BytePath): Promise<boolean> {
  const [one, other] = await statsOf(sides, path, "upper");
  if (one === undefined || other === undefined) return false;
  return one.ino === other.ino && one.ctimeNs === other.ctimeNs && one.size === other.size && one.mode === other.mode;
}

async function isEqual([before, after]: Sides, path: BytePath, one: BigIntStats, other: BigIntStats): Promise<boolean> {
  if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return false;
  // Size and time of a directory follow from what is in it.
  if (one.isDirectory() || before === undefined || after === undefined) return true;
  if (one.isCharacterDevice() || one.isBlockDevice()) return one.rdev === other.rdev;
  const paths = [pathOf(before.merged, path), pathOf(after.merged, path)] as const;
  if (one.isSymbolicLink()) return sameLink(...paths);
  if (!one.isFile()) return true;
  return one.size === other.size && one.mtimeNs === other.mtimeNs && (await sameContent(...paths));
}
