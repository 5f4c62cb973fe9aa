import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { HobError } from "@hob/protocol";
import { Turns } from "../src/checkpoints/turns.ts";
import { CheckpointTrees, type TreeParts } from "../src/history/trees.ts";
import { type CheckpointRecord, initialState } from "../src/volume/ledger.ts";

/** What happened, in order. */
let seen: string[] = [];
let mountFails = false;
let snapshotFails = false;

const note = async (text: string) => {
  seen.push(text);
};
const record: CheckpointRecord = {
  id: "v1",
  thin: 1,
  createTime: "",
  comment: "",
  history: [],
  automatic: false,
  reason: null,
  origin: null,
};
const parts = {
  checkpoints: { exclusively: <T>(work: () => Promise<T>) => work() },
  mounts: {
    lend: async ({ id, thin }: CheckpointRecord) => {
      if (mountFails) throw new HobError("helper_failed", "no mount");
      await note(`mount ${id} of ${thin}`);
    },
    has: (id: string) => /^(v1|\.current-\d)$/.test(id),
    giveBack: (id: string) => void note(`give ${id} back`),
    hideIdle: (id: string) => note(`hide ${id} if idle`),
    hide: (id: string) => note(`hide ${id}`),
  },
  volume: {
    ledger: {
      state: initialState,
      find: (id: string) => (id === "v1" ? record : undefined),
      reserveThin: async () => 7,
      release: (thin: number) => void note(`release ${thin}`),
    },
    pool: { requireRoomForSnapshot: async () => {} },
    snapshotLive: async (thin: number) => {
      if (snapshotFails) throw new HobError("no_space", "no snapshot");
      await note(`snapshot ${thin}`);
    },
    reap: () => note("reap"),
  },
  store: { stored: undefined },
  onError: (what: string) => void note(what),
  idleMs: 0,
} as unknown as TreeParts;

describe("trees of checkpoints", () => {
  let trees: CheckpointTrees;
  beforeEach(() => {
    [seen, mountFails, snapshotFails] = [[], false, false];
    trees = new CheckpointTrees(parts);
  });

  test("a checkpoint is given back once, and hidden when it is idle", async () => {
    const tree = await trees.open("v1");
    assert.deepEqual([tree.id, tree.inside], ["v1", "/.sprite/checkpoints/v1"]);
    await tree[Symbol.asyncDispose]();
    await tree[Symbol.asyncDispose]();
    const idle = Promise.withResolvers<void>();
    const { mounts } = parts as unknown as { mounts: { hideIdle: (id: string) => Promise<void> } };
    const hideIdle = mounts.hideIdle;
    mounts.hideIdle = async (id) => {
      await hideIdle(id);
      idle.resolve();
    };
    const keepAlive = setTimeout(() => {}, 10_000);
    await idle.promise;
    clearTimeout(keepAlive);
    mounts.hideIdle = hideIdle;
    assert.deepEqual(seen, ["mount v1 of 1", "give v1 back", "hide v1 if idle"]);
  });

  test("of the live state is a snapshot, which goes with it", async () => {
    for (const id of ["Current", "current"]) {
      seen = [];
      const tree = await trees.open(id);
      assert.deepEqual([tree.id, tree.isThere()], ["Current", true], "under the name of its own");
      await tree[Symbol.asyncDispose]();
      assert.match(seen.join(), /^snapshot 7,mount (\.current-\d) of 7,hide \1,release 7,reap$/);
    }
  });

  test("what is being mounted holds nobody up who waits for a turn", { timeout: 30_000 }, async () => {
    const turns = new Turns();
    const checkpoints = { exclusively: <T>(work: () => Promise<T>) => turns.take(work) };
    for (const id of ["v1", "Current"]) {
      const [begun, store] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const lend = () => {
        begun.resolve();
        return store.promise;
      };
      const waiting = new CheckpointTrees({ ...parts, checkpoints, mounts: { ...parts.mounts, lend } } as unknown as TreeParts);
      const opened = waiting.open(id);
      await begun.promise;
      await turns.take(async () => {});
      store.resolve();
      await (await opened)[Symbol.asyncDispose]();
    }
  });

  test("that cannot be opened leave nothing", async () => {
    await assert.rejects(trees.open("v9"), (error) => error instanceof HobError && error.code === "not_found");
    assert.deepEqual(seen, []);
    mountFails = true;
    await assert.rejects(trees.open("Current"), /no mount/);
    assert.deepEqual(seen.slice(-2), ["release 7", "reap"]);
    seen = [];
    snapshotFails = true;
    await assert.rejects(trees.open("Current"), /no snapshot/);
    assert.deepEqual(seen.slice(-2), ["release 7", "reap"]);
  });
});
