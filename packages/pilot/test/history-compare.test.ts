import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, after as cleanUp, describe, before as prepare, test } from "node:test";
import { HobError } from "@hob/protocol";
import type { FileComparison } from "../src/helper/index.ts";
import { type CompareOptions, compareTrees, type Side } from "../src/history/compare-trees.ts";
import { Comparer } from "../src/history/comparer.ts";
import { type RunningHelper, startHelper } from "./support/helper.ts";

const isRoot = process.getuid?.() === 0;
let base = "";
let mounts: string[] = [];
let before: Side;
let after: Side;
let helper: RunningHelper;
let comparison: FileComparison;
let comparer: CompareOptions["comparer"];

/** A state over the layer, on a file system that may hold an upper folder. */
function stateOf(name: string, from?: string): Side {
  const [upper, work, merged] = ["upper", "work", "merged"].map((part) => join(base, name, part)) as [string, string, string];
  for (const folder of [work, merged]) mkdirSync(folder, { recursive: true });
  if (from === undefined) mkdirSync(upper);
  else execFileSync("cp", ["-a", from, upper]);
  const options = `lowerdir=${join(base, "layer")},upperdir=${upper},workdir=${work}`;
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, merged]);
  mounts.push(merged);
  return { merged, upper };
}

async function differences(top = ""): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { path, change } of compareTrees(before, after, { comparer, top })) found[path] = change;
  return found;
}

/** setxattr(2) of x86-64: there is no program for it everywhere. */
const setAttribute = (path: string, name: string, value: string) =>
  execFileSync("perl", ["-e", "exit(syscall(188, @ARGV, length $ARGV[2], 0) == 0 ? 0 : 1)", path, name, value]);

describe("two trees over one layer", { skip: isRoot ? false : "needs root, to mount" }, () => {
  prepare(async () => {
    helper = await startHelper();
    comparison = await helper.client.compare();
    comparer = new Comparer({ comparison, changes: async () => undefined, progress: { paths: 0, bytes: 0 } });
  });
  cleanUp(async () => {
    comparison[Symbol.dispose]();
    await helper[Symbol.asyncDispose]();
    assert.equal(helper.stderr(), "", "no sanitizer report");
  });
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), "hob-compare-"));
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", base]);
    mounts = [base];
    for (const folder of ["kept", "dropped/deep", "replaced"]) mkdirSync(join(base, "layer", folder), { recursive: true });
    for (const file of ["kept/file", "kept/other", "dropped/deep/file", "replaced/old", "top"])
      writeFileSync(join(base, "layer", file), file);
    before = stateOf("before");
    mkdirSync(join(before.merged, "own"));
    writeFileSync(join(before.merged, "own/file"), "one");
    after = stateOf("after", before.upper);
  });
  afterEach(() => {
    for (const mount of mounts.reverse()) execFileSync("umount", [mount]);
    rmSync(base, { recursive: true });
  });

  test("that are equal do not differ", async () => {
    assert.deepEqual(await differences(), {});
    // Copied up and not changed.
    chmodSync(join(after.merged, "kept/file"), 0o644);
    chmodSync(join(before.merged, "kept/other"), 0o644);
    assert.deepEqual(await differences(), {});
  });

  test("differ in what was added, changed and removed, of the layer too", async () => {
    const at = (path: string) => join(after.merged, path);
    writeFileSync(at("own/file"), "two");
    writeFileSync(at("own/new"), "");
    chmodSync(at("kept/file"), 0o600);
    rmSync(at("top"));
    rmSync(at("dropped"), { recursive: true });
    assert.deepEqual(await differences(), {
      dropped: "removed",
      "dropped/deep": "removed",
      "dropped/deep/file": "removed",
      "kept/file": "changed",
      "own/file": "changed",
      "own/new": "added",
      top: "removed",
    });
    [before, after] = [after, before];
    assert.equal((await differences())["dropped/deep/file"], "added");
  });

  test("a folder that was removed and made anew hides what the layer has", async () => {
    rmSync(join(after.merged, "replaced"), { recursive: true });
    mkdirSync(join(after.merged, "replaced"));
    writeFileSync(join(after.merged, "replaced/new"), "");
    assert.deepEqual(await differences(), { "replaced/new": "added", "replaced/old": "removed" });
  });

  test("content that changed within one size and time is found", async () => {
    const times = [new Date(1_000_000_000_000), new Date(1_000_000_000_000)] as const;
    writeFileSync(join(after.merged, "own/file"), "two");
    for (const { merged } of [before, after]) utimesSync(join(merged, "own/file"), ...times);
    assert.deepEqual(await differences(), { "own/file": "changed" });
  });

  test("extended attributes alone are a change, of files, folders, and what both layers and a side have", async () => {
    const at = (path: string) => join(after.merged, path);
    setAttribute(at("own"), "user.note", "folder");
    setAttribute(at("own/file"), "user.note", "one");
    setAttribute(at("kept/file"), "user.note", "layer");
    setAttribute(join(before.merged, "own/file"), "user.gone", "x".repeat(3_000));
    execFileSync("setcap", ["cap_net_raw+ep", at("top")]);
    const found = new Map<string, readonly [string, string | undefined, string | undefined][]>();
    for await (const { path, change, attributes } of compareTrees(before, after, { comparer })) {
      assert.equal(change, "changed");
      found.set(
        path,
        attributes.map(({ name, before, after }) => [name, before?.toString("latin1"), after?.toString("latin1")]),
      );
    }
    assert.deepEqual([...found.keys()], ["kept/file", "own", "own/file", "top"]);
    assert.deepEqual(found.get("own"), [["user.note", undefined, "folder"]]);
    assert.deepEqual(found.get("own/file"), [
      ["user.gone", "x".repeat(3_000), undefined],
      ["user.note", undefined, "one"],
    ]);
    assert.deepEqual([found.get("top")?.[0]?.[0], found.get("top")?.[0]?.[1]], ["security.capability", undefined]);
    execFileSync("setcap", ["-r", at("top")]);
    assert.deepEqual((await differences()).top, undefined, "what came and went");
  });

  test("no link is followed, wherever it takes the place of a folder", async () => {
    const secret = join(base, "secret");
    mkdirSync(secret);
    writeFileSync(join(secret, "file"), "");
    rmSync(join(after.merged, "own"), { recursive: true });
    symlinkSync(secret, join(after.merged, "own"));
    assert.deepEqual(await differences(), { own: "type", "own/file": "removed" });
    [before, after] = [after, before];
    assert.deepEqual(await differences(), { own: "type", "own/file": "added" });
    await assert.rejects(differences("own/file"), (error) => error instanceof HobError && error.code === "invalid_request");
    assert.deepEqual(await differences("own"), { own: "type", "own/file": "added" });
  });

  test("a part only; names that are no text", async () => {
    writeFileSync(join(after.merged, "own/new"), "");
    writeFileSync(join(after.merged, "kept/new"), "");
    writeFileSync(Buffer.concat([Buffer.from(join(after.merged, "own/")), Buffer.from([0xff, 0xfe])]), "");
    assert.deepEqual(await differences("own"), { "own/new": "added", "own/\xff\xfe": "added" });
    for (const nowhere of ["none", "none/below", "own/file/below"])
      await assert.rejects(differences(nowhere), (error) => error instanceof HobError && error.code === "not_found", nowhere);
    assert.deepEqual(await differences("kept/file"), {});
  });
});
