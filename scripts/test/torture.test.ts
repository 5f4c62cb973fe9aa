import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { Random } from "../../packages/storage/test/support/random.ts";
import { changesOf } from "../torture/machine/changes.ts";
import { eventually, limited, Violation } from "../torture/machine/limits.ts";
import { differences, type Manifest, manifestScript, parseManifest } from "../torture/machine/manifest.ts";
import { FAULTS, KILLS, OPERATIONS, planOf } from "../torture/machine/plan.ts";

describe("the plan of a torture", () => {
  test("is what its seed says, and the beginning of a longer one", () => {
    assert.deepEqual(planOf(7, 10), planOf(7, 30).slice(0, 10));
    assert.notDeepEqual(planOf(7, 10), planOf(8, 10));
  });

  test("has every operation, at rest and while each kind is killed, and every fault of the store", () => {
    const steps = planOf(1, 2_000);
    const seen = new Set(steps.flatMap(({ operation, kill }) => [operation, `${operation} ${kill?.kind}`]));
    for (const operation of OPERATIONS) assert.ok(seen.has(operation), operation);
    for (const operation of ["rest", "write", "checkpoint", "restore", "fork", "sync"])
      for (const kind of KILLS) assert.ok(seen.has(`${operation} ${kind}`), `${operation} ${kind}`);
    for (const kind of FAULTS)
      assert.ok(
        steps.some(({ fault }) => fault?.kind === kind),
        kind,
      );
  });
});

describe("a manifest", () => {
  const folder = mkdtempSync(join(tmpdir(), "hob-manifest-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const path = (name: string) => join(folder, name);
  const read = (): Manifest => parseManifest(execFileSync("sh", ["-c", manifestScript(folder)], { encoding: "utf8" }));
  const time = new Date(1_700_000_000_000);

  /** What the manifest shows of one change. */
  function shown(change: () => void): string[] {
    const before = read();
    change();
    return differences(before, read()).map((line) => line.split(":")[0] ?? "");
  }

  test("shows every change of a file, a folder and a link", () => {
    mkdirSync(path("d/e"), { recursive: true });
    for (const name of ["a", "c c", "ü", "-f", "d/x"]) writeFileSync(path(name), name);
    symlinkSync("to a", path("l"));
    utimesSync(path("a"), time, time);
    const sameTime = () => {
      writeFileSync(path("a"), "b");
      utimesSync(path("a"), time, time);
    };
    const otherTarget = () => {
      rmSync(path("l"));
      symlinkSync("to b", path("l"));
    };
    assert.deepEqual([...read().keys()].sort(), ["-f", "a", "c c", "d", "d/e", "d/x", "l", "ü"]);
    assert.deepEqual(
      shown(() => {}),
      [],
    );
    assert.deepEqual(shown(sameTime), ["a"], "content alone");
    assert.deepEqual(
      shown(() => utimesSync(path("a"), time, new Date())),
      ["a"],
      "time alone",
    );
    assert.deepEqual(
      shown(() => appendFileSync(path("d/x"), "more")),
      ["d/x"],
    );
    assert.deepEqual(
      shown(() => truncateSync(path("ü"), 100_000)),
      ["ü"],
    );
    assert.deepEqual(
      shown(() => chmodSync(path("d"), 0o700)),
      ["d"],
    );
    assert.deepEqual(shown(otherTarget), ["l"]);
    for (const name of ["h1", "h2"]) writeFileSync(path(name), "same");
    for (const name of ["h1", "h2"]) utimesSync(path(name), time, time);
    for (const name of ["h1", "h2"]) linkSync(path(name), path(`${name}-again`));
    const otherLink = () => {
      for (const name of ["h1-again", "h2-again"]) rmSync(path(name));
      linkSync(path("h1"), path("h2-again"));
      linkSync(path("h2"), path("h1-again"));
    };
    assert.deepEqual(shown(otherLink), ["h1-again", "h2", "h2-again"], "which file a name is of");
    for (const name of ["h1", "h2", "h1-again", "h2-again"]) rmSync(path(name));
    assert.deepEqual(
      shown(() => utimesSync(path("d/e"), time, time)),
      ["d/e"],
      "time of a folder",
    );
    assert.deepEqual(
      shown(() => lutimesSync(path("l"), time, time)),
      ["l"],
      "time of a link",
    );
    assert.deepEqual(
      shown(() => renameSync(path("c c"), path("z"))),
      ["c c", "z"],
    );
    assert.deepEqual(
      shown(() => rmSync(path("d"), { recursive: true })),
      ["d", "d/e", "d/x"],
    );
  });

  test("lets names be anything, with what is below them", () => {
    const before: Manifest = new Map([
      ["a", "f"],
      ["d/x", "f"],
      ["dd", "f"],
    ]);
    assert.deepEqual(differences(before, new Map(), new Set(["d"])), ["a: f → nothing", "dd: f → nothing"]);
  });

  test("that is cut short is none", () => {
    assert.throws(() => parseManifest("a\tf 644"), /no manifest/);
    assert.throws(() => parseManifest("a\tf 644\n-- sums\nabc"), /no line of a manifest/);
  });

  test("of random changes differs at most where they say so", () => {
    const random = new Random(5);
    let changed = 0;
    for (let round = 0; round < 30; round++) {
      const before = read();
      const { lines, touched } = changesOf(random, 4);
      // Nobody's sudo is asked: that one change then does nothing. A change that fails ends the script.
      execFileSync("sh", ["-e", "-c", ["sudo() { :; }", `cd ${folder}`, ...lines].join("\n")], { stdio: ["ignore", "pipe", "ignore"] });
      const found = read();
      assert.deepEqual(differences(before, found, touched), []);
      changed += differences(before, found).length;
    }
    assert.ok(changed > 30, `${changed}`);
  });
});

describe("limits", () => {
  test("name what did not end, and what never succeeded", async () => {
    await assert.rejects(limited("the wait", new Promise(() => {}), 10), new Violation("the wait: no end after 0.01 s"));
    let tries = 0;
    assert.equal(await eventually("third time", async () => (++tries < 3 ? Promise.reject(new Error("not yet")) : tries)), 3);
    await assert.rejects(
      eventually("loss", () => Promise.reject(new Violation("lost"))),
      /^Error: lost$/,
    );
  });
});
