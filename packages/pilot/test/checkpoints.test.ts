import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { CHECKPOINT_LIMITS, HobError } from "@hob/protocol";
import fc from "fast-check";
import { PilotModel, PoolModel } from "./support/pool-model.ts";

let directory = "";
let pool = new PoolModel();
let pilot: PilotModel;
const path = () => join(directory, "volumes.json");
const start = async (isNew = false) => {
  pilot = await PilotModel.start(pool, path(), isNew);
};
const ids = (includeAuto = true) => pilot.checkpoints.list({ includeAuto }).map(({ id }) => id);
const code = (expected: string) => (error: unknown) => error instanceof HobError && error.code === expected;
const quiet = () => {};

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "hob-checkpoints-"));
  pool = new PoolModel();
  await start(true);
});
afterEach(async () => {
  await pilot.settled();
  rmSync(directory, { recursive: true });
});

describe("checkpoints", () => {
  test("have numbers of their own that are never used again, also after a restart", async () => {
    await pilot.checkpoints.create("one");
    const { checkpoint } = await pilot.checkpoints.create("");
    assert.equal(checkpoint.id, "v2");
    await pilot.checkpoints.delete("v2");
    await start();
    pilot.write("x");
    assert.equal((await pilot.checkpoints.automatic("sleep"))?.checkpoint.id, "auto-1");
    assert.equal((await pilot.checkpoints.create("")).checkpoint.id, "v3");
    assert.deepEqual(ids(false), ["Current", "v3", "v1"]);
    assert.deepEqual(ids(), ["Current", "v3", "auto-1", "v1"]);
  });

  test("are made known at once, and so is that one is gone", async () => {
    const { checkpoint } = await pilot.checkpoints.create("");
    assert.equal(pilot.changes, 1);
    await pilot.checkpoints.delete(checkpoint.id);
    assert.equal(pilot.changes, 2);
    pool.snapshotFails = true;
    await assert.rejects(pilot.checkpoints.create(""));
    assert.equal(pilot.changes, 2);
  });

  test("know what they derive from; a list of a lineage has what derives from it", async () => {
    for (const comment of ["a", "b", "c"]) await pilot.checkpoints.create(comment);
    await pilot.checkpoints.restore("v1", quiet);
    await pilot.checkpoints.create("d");
    const { source_id, history, comment } = pilot.checkpoints.get("v4");
    assert.deepEqual({ source_id, history, comment }, { source_id: "v1", history: ["v1"], comment: "d" });
    assert.deepEqual(pilot.checkpoints.get("v3").history, ["v2", "v1"]);
    assert.deepEqual(pilot.checkpoints.get("Current").history, ["v4", "v1"]);
    assert.deepEqual(
      pilot.checkpoints.list({ history: "v2" }).map(({ id }) => id),
      ["v3", "v2"],
    );
  });

  test("automatic ones give way to a snapshot of the live state that is none, but for that of undo; then it is refused", async () => {
    await pilot.checkpoints.create("");
    await pilot.checkpoints.restore("v1", quiet);
    for (const content of ["x", "y"]) {
      pilot.write(content);
      await pilot.checkpoints.automatic("hourly");
    }
    let taken = 0;
    const snapshot = async () => void taken++;
    await pilot.checkpoints.withRoom(snapshot);
    assert.deepEqual([taken, ids()], [1, ["Current", "auto-3", "auto-2", "auto-1", "v1"]]);
    pool.full = true;
    await assert.rejects(pilot.checkpoints.withRoom(snapshot), /full/);
    assert.equal(taken, 1);
    assert.deepEqual(ids(), ["Current", "auto-1", "v1"]);
    assert.equal(pilot.checkpoints.undoTarget(), "auto-1");
  });

  test("the snapshot of the last upload gives way before any of them, but only once an hour", async () => {
    const uploaded = async (thin: number) => {
      pool.thins.set(thin, "uploaded");
      pool.inTheWay = thin;
      await pilot.ledger.update((state) => ({ ...state, uploaded: { thin, origin: null, root: null } }));
    };
    for (const content of ["x", "y"]) {
      pilot.write(content);
      await pilot.checkpoints.automatic("hourly");
    }
    await uploaded(50);
    await pilot.checkpoints.create("");
    assert.deepEqual(ids(), ["Current", "v1", "auto-2", "auto-1"]);
    assert.deepEqual([pilot.ledger.state.uploaded?.thin, pool.thins.has(50)], [null, false]);
    await uploaded(51);
    await assert.rejects(
      pilot.checkpoints.withRoom(async () => {}),
      code("no_space"),
    );
    assert.deepEqual([ids(), pool.thins.has(51)], [["Current", "v1"], true]);
    pool.laterMs = 3_600_000;
    pilot.write("z");
    assert.equal((await pilot.checkpoints.automatic("hourly"))?.checkpoint.id, "auto-3");
    assert.equal(pool.thins.has(51), false);
    pool.laterMs = 0;
    await uploaded(52);
    await pilot.checkpoints.withRoom(async () => {});
    assert.deepEqual([ids(), pool.thins.has(52)], [["Current", "auto-3", "v1"], false], "the clock was set back");
  });

  test("none gives way when it cannot be told whether there is room", async () => {
    pilot.write("x");
    await pilot.checkpoints.automatic("hourly");
    pool.statusFails = true;
    await assert.rejects(
      pilot.checkpoints.withRoom(async () => {}),
      code("helper_failed"),
    );
    await assert.rejects(pilot.checkpoints.create(""), code("helper_failed"));
    assert.deepEqual(ids(), ["Current", "auto-1"]);
  });

  test("that came from the object store are shown inside, and not after an end has begun", async () => {
    const adopt = (id: string) =>
      pilot.ledger.update((state) => ({
        ...state,
        checkpoints: [
          ...state.checkpoints,
          { ...{ id, thin: 100, createTime: "", comment: "", history: [], automatic: false, reason: null }, origin: "s" },
        ],
      }));
    await adopt("v7");
    const shown = new Promise<string[]>((resolve) => {
      pilot.onShow = (wanted) => {
        resolve(wanted);
        return [];
      };
    });
    pilot.checkpoints.adopted();
    assert.deepEqual(await shown, ["v7"]);
    let isLate = false;
    pilot.onShow = () => {
      isLate = true;
      return [];
    };
    pilot.checkpoints.adopted();
    await pilot.checkpoints.settled();
    // Timers of one process go off in order.
    await new Promise((resolve) => setTimeout(resolve, 2));
    await pilot.checkpoints.settled();
    assert.equal(isLate, false);
  });

  test("are taken, restored and deleted while one is being mounted, and before the next is", { timeout: 30_000 }, async ({ signal }) => {
    const mounted: string[] = [];
    const [mounting, first, later] = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    signal.addEventListener("abort", () => first.resolve());
    pilot.onShow = async ([id = "none"], mayMount) => {
      await mayMount();
      mounted.push(id);
      mounting.resolve();
      await first.promise;
      await mayMount();
      mounted.push("next");
      later.resolve();
      return [id];
    };
    await pilot.checkpoints.create("");
    // The store does not answer.
    await mounting.promise;
    pilot.onShow = async () => ["v2"];
    await pilot.checkpoints.create("");
    await pilot.checkpoints.restore("v1", quiet);
    await pilot.checkpoints.delete("auto-1");
    const held = Promise.withResolvers<void>();
    const working = pilot.checkpoints.exclusively(async () => {
      first.resolve();
      await held.promise;
      mounted.push("work");
    });
    held.resolve();
    await Promise.all([working, later.promise]);
    assert.deepEqual(mounted, ["v1", "work", "next"]);
    await pilot.settled();
    assert.equal(pilot.checkpoints.get("v1").health, "", "what a mount says that is not the last counts no more");
  });

  test("an automatic one is taken only when something was changed", async () => {
    await pilot.checkpoints.noteNew();
    assert.equal(await pilot.checkpoints.automatic("sleep"), undefined, "a new sprite has nothing to keep");
    pilot.write("x");
    assert.notEqual(await pilot.checkpoints.automatic("hourly"), undefined);
    assert.equal(await pilot.checkpoints.automatic("hourly"), undefined);
    pilot.write("y");
    assert.equal((await pilot.checkpoints.automatic("sleep"))?.checkpoint.reason, "sleep");
    pilot.write("z");
    await pilot.checkpoints.create("");
    assert.equal(await pilot.checkpoints.automatic("sleep"), undefined, "one that was asked for has it");
  });

  test("what is written while one is taken counts as changed after it", async () => {
    pilot.write("x");
    pool.onSnapshot = () => pilot.write("y");
    await pilot.checkpoints.automatic("sleep");
    pool.onSnapshot = () => {};
    assert.equal((await pilot.checkpoints.automatic("sleep"))?.checkpoint.id, "auto-2");
    await start();
    assert.equal((await pilot.checkpoints.automatic("sleep"))?.checkpoint.id, "auto-3", "a new pilot does not know");
  });

  test("unknown ids and the live state are refused", async () => {
    assert.throws(() => pilot.checkpoints.get("v1"), code("not_found"));
    await assert.rejects(pilot.checkpoints.delete("v1"), code("not_found"));
    await assert.rejects(pilot.checkpoints.restore("v1", quiet), code("not_found"));
    await assert.rejects(pilot.checkpoints.delete("Current"), code("conflict"));
    await assert.rejects(pilot.checkpoints.restore("Current", quiet), code("conflict"));
    assert.throws(() => pilot.checkpoints.undoTarget(), code("conflict"));
  });

  test("when there is no room, automatic ones give way, and others are kept", async () => {
    await pilot.checkpoints.create("");
    pilot.write("x");
    await pilot.checkpoints.automatic("sleep");
    pool.full = true;
    await assert.rejects(pilot.checkpoints.create(""), /full/);
    assert.deepEqual(ids(), ["Current", "v1"]);
    pool.full = false;
    assert.equal((await pilot.checkpoints.create("")).checkpoint.id, "v2");
  });

  test("a snapshot that fails leaves nothing", async () => {
    pool.snapshotFails = true;
    await assert.rejects(pilot.checkpoints.create(""), /no snapshot/);
    await pilot.settled();
    assert.deepEqual([...pool.thins.keys()], [0]);
    assert.deepEqual(ids(), ["Current"]);
  });

  test("their number is limited", async () => {
    const one = (await pilot.checkpoints.create("")).checkpoint;
    const many = Array.from({ length: CHECKPOINT_LIMITS.checkpoints - 1 }, (_, index) => ({ ...one, id: `v${index + 2}` }));
    await pilot.ledger.update((state) => ({ ...state, checkpoints: [...state.checkpoints, ...many] }));
    await assert.rejects(pilot.checkpoints.create(""), code("conflict"));
  });
});

describe("restore", () => {
  test("puts the state back, keeps the one before, and can be undone and redone", async () => {
    pilot.write("good");
    await pilot.checkpoints.create("");
    pilot.write("bad");
    const said: string[] = [];
    const { undoId } = await pilot.checkpoints.restore("v1", (text) => said.push(text));
    assert.equal(pilot.content, "good");
    assert.equal(pilot.contentOf(undoId), "bad");
    assert.ok(said.some((text) => text.includes(undoId)));
    await pilot.checkpoints.restore(pilot.checkpoints.undoTarget(), quiet);
    assert.equal(pilot.content, "bad");
    await pilot.checkpoints.restore(pilot.checkpoints.undoTarget(), quiet);
    assert.equal(pilot.content, "good");
  });

  test("that fails leaves the state as it was, and the checkpoint of it", async () => {
    pilot.write("broken");
    await pilot.checkpoints.create("");
    pilot.write("works");
    pool.broken = "broken";
    await assert.rejects(pilot.checkpoints.restore("v1", quiet), /does not start/);
    assert.equal(pilot.content, "works");
    assert.deepEqual(ids(), ["Current", "auto-1", "v1"]);
    await pilot.settled();
    assert.equal(pool.thins.size, 3, "nothing of the attempt is left");
  });

  test("a checkpoint that is restored is not thinned out meanwhile", async () => {
    pilot.write("first");
    const first = (await pilot.checkpoints.automatic("sleep"))?.checkpoint.id ?? "";
    for (let i = 0; i < 3; i++) {
      pilot.write(`later ${i}`);
      await pilot.checkpoints.automatic("sleep");
    }
    assert.ok(!ids().includes(first), "the first of the hour was thinned out");
    const oldest = ids().at(-1) ?? "";
    const content = pilot.contentOf(oldest);
    await pilot.checkpoints.restore(oldest, quiet);
    assert.equal(pilot.content, content);
    assert.equal(pilot.contentOf(oldest), content);
  });
});

type Action = { kind: "create" | "automatic" | "undo" } | { kind: "restore" | "delete"; pick: number };
const actions = fc.array(
  fc.record({
    action: fc.oneof(
      fc.record({ kind: fc.constantFrom("create" as const, "automatic" as const, "undo" as const) }),
      fc.record({ kind: fc.constantFrom("restore" as const, "delete" as const), pick: fc.nat() }),
    ),
    /** effects until the VM dies in the middle of it */
    fuse: fc.option(fc.nat(14), { nil: undefined }),
  }),
  { maxLength: 12 },
);

async function perform(action: Action): Promise<void> {
  const all = ids().slice(1);
  const picked = "pick" in action ? all[action.pick % all.length] : undefined;
  if (action.kind === "create") await pilot.checkpoints.create("");
  else if (action.kind === "automatic") await pilot.checkpoints.automatic("hourly");
  else if (action.kind === "undo") await pilot.checkpoints.restore(pilot.checkpoints.undoTarget(), quiet);
  else if (picked !== undefined && action.kind === "restore") await pilot.checkpoints.restore(picked, quiet);
  else if (picked !== undefined) await pilot.checkpoints.delete(picked);
}

test("whenever the VM dies: the state is the one before or the one after, each checkpoint is whole, and nothing leaks", async () => {
  await fc.assert(
    fc.asyncProperty(actions, async (sequence) => {
      pool = new PoolModel();
      await start(true);
      for (const [index, { action, fuse }] of sequence.entries()) {
        pilot.write(`state ${index}`);
        const before = {
          live: pilot.content,
          kept: new Map(
            ids()
              .slice(1)
              .map((id) => [id, pilot.contentOf(id)]),
          ),
        };
        pool.fuse = fuse;
        await perform(action).catch(() => {});
        await pilot.settled();
        const possible = new Set([before.live, ...before.kept.values()]);
        await start();
        assert.ok(possible.has(pilot.content), `live state ${pilot.content}`);
        for (const id of ids().slice(1)) {
          const expected = before.kept.get(id) ?? before.live;
          assert.equal(pilot.contentOf(id), expected, id);
        }
        const belongs = new Set([pilot.ledger.state.live.thin, ...pilot.ledger.state.checkpoints.map(({ thin }) => thin)]);
        assert.deepEqual(new Set(pool.thins.keys()), belongs);
      }
    }),
    { numRuns: 60 },
  );
});

test("what was acknowledged is there after the VM has died", async () => {
  for (let fuse = 0; fuse < 25; fuse++) {
    pilot.write(`state ${fuse}`);
    pool.fuse = fuse;
    const taken = await pilot.checkpoints.create("").catch(() => undefined);
    await pilot.settled();
    await start();
    if (taken !== undefined) assert.equal(pilot.contentOf(taken.checkpoint.id), `state ${fuse}`);
  }
  assert.ok(ids().length > 1, "some were");
});
