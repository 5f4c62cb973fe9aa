import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Checkpoint, FREEZE_LIMITS, type StorageStatus } from "@hob/protocol";
import { Turns } from "../src/checkpoints/turns.ts";
import { type HandOverParts, handOver } from "../src/host-api/hand-over.ts";
import { within } from "../src/within.ts";

const GENEROUS_MS = 30_000;
const STORAGE: StorageStatus = {
  ...{ enabled: true, durable_at: null, durable_lag_seconds: 0, uploading: false, pending_checkpoints: [] },
  ...{ fetched_bytes: 0, fetched_requests: 0, error: null },
};
const LAG = { lagMs: 5, checkpoints: 1, error: null };
const checkpoint = (comment: string): Checkpoint => ({
  ...{ id: "v1", create_time: "", comment, source_id: "", health: "", history: [], is_auto: false },
});

describe("turns", () => {
  test("stand still when what is under way has ended, and go on in order", async () => {
    const turns = new Turns();
    const done: string[] = [];
    const first = Promise.withResolvers<void>();
    void turns.take(async () => {
      await first.promise;
      done.push("first");
    });
    const still = turns.standStill(GENEROUS_MS);
    const second = turns.take(async () => void done.push("second"));
    first.resolve();
    assert.ok(await still);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(done, ["first"]);
    turns.goOn();
    await second;
    assert.deepEqual(done, ["first", "second"]);
  });

  test("go on when what is under way does not end in time", async () => {
    const turns = new Turns();
    const long = Promise.withResolvers<void>();
    void turns.take(() => long.promise);
    assert.ok(!(await turns.standStill(5)));
    const later = turns.take(async () => "later");
    long.resolve();
    assert.equal(await later, "later");
  });

  test("stand still once more, and are settled at the end even so", async () => {
    const turns = new Turns();
    assert.ok(await turns.standStill(GENEROUS_MS));
    assert.ok(await turns.standStill(GENEROUS_MS), "a save that failed may be tried again");
    const waiting = turns.take(async () => "done");
    await turns.settled();
    assert.equal(await waiting, "done");
  });
});

describe("what the host is told before a save", () => {
  const parts = (
    more: Partial<HandOverParts> & { listed?: Checkpoint[]; answers?: (string | undefined)[]; turns?: Turns },
  ): HandOverParts => {
    const { listed = [checkpoint("")], answers = ["w1", "w1"], turns = new Turns() } = more;
    return {
      storage: { status: async () => STORAGE, durability: { storedAs: async () => answers.shift(), lag: async () => LAG } },
      checkpoints: { turns, list: ({ includeAuto = false } = {}) => (includeAuto ? listed : []) },
      container: { freeze: async () => {} },
      sync: async () => {},
      ...more,
    };
  };

  test("is what it would answer, and nothing changes the checkpoints after it", async () => {
    const turns = new Turns();
    const told = await handOver(parts({ turns }));
    assert.deepEqual(told, { storedAs: "w1", checkpoints: [checkpoint("")], storage: STORAGE, lag: LAG });
    let isTaken = false;
    const taken = turns.take(async () => {
      isTaken = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(!isTaken);
    turns.goOn();
    await taken;
  });

  test("leaves nothing standing still when the sprite goes on before its processes have stopped, and when they do not stop", async () => {
    const turns = new Turns();
    const freezing = Promise.withResolvers<void>();
    const told = handOver(parts({ turns, container: { freeze: () => freezing.promise } }));
    turns.goOn();
    freezing.resolve();
    await told;
    assert.ok(
      await within(
        GENEROUS_MS,
        turns.take(async () => {}),
      ),
    );
    await assert.rejects(handOver(parts({ turns, container: { freeze: () => Promise.reject(new Error("no cgroup")) } })), /no cgroup/);
    assert.ok(
      await within(
        GENEROUS_MS,
        turns.take(async () => {}),
      ),
    );
  });

  test("has no head when writing out what is dirty shows more than that has", async () => {
    assert.equal((await handOver(parts({ answers: ["w1", undefined] }))).storedAs, null);
    assert.equal((await handOver(parts({ answers: [undefined] }))).storedAs, null);
  });

  test("has no checkpoints while something changes them, and none that are more than the host reads", async () => {
    const turns = new Turns();
    const long = Promise.withResolvers<void>();
    const busy = turns.take(() => long.promise);
    assert.equal((await handOver(parts({ turns }))).checkpoints, null);
    long.resolve();
    await busy;
    const listed = [checkpoint("x".repeat(FREEZE_LIMITS.checkpointsBytes))];
    assert.equal((await handOver(parts({ listed }))).checkpoints, null);
  });
});
