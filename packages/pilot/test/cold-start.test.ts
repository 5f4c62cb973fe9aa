import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { StorageAssignment } from "@hob/protocol";
import { acquire, OrgKeys, readHead } from "@hob/storage";
import { DirectoryStore } from "@hob/storage/store/directory-store.ts";
import { pino } from "pino";
import { type ColdStartParts, coldStart } from "../src/durability/cold-start.ts";
import { Durability, type DurabilityParts } from "../src/durability/durability.ts";
import { type CheckpointRecord, Ledger } from "../src/volume/ledger.ts";
import type { SwitchOptions } from "../src/volume/tree-switch.ts";

const PLACE = { organization: "hob", spriteId: "sprite-1", owner: "here", epoch: 1 };
const ROOT = "a".repeat(64);
const STATS = { blocks: 0, zeroBlocks: 0, unchangedBlocks: 0, reusedBlocks: 0, bytesRead: 0, bytesUploaded: 0, packs: 0, pages: 0 };
const UNDO: CheckpointRecord = {
  ...{ id: "auto-9", thin: 7, createTime: new Date().toISOString(), comment: "", history: [] },
  ...{ automatic: true, reason: "restore", origin: null },
};

async function upload(store: DirectoryStore, undo: string): Promise<void> {
  const uploaded = async () => {
    const result = { root: ROOT, storedBlocks: 1, stats: STATS, startedAt: Date.now() };
    return { result, keep: async () => {}, [Symbol.asyncDispose]: async () => {} };
  };
  const volume: DurabilityParts["upload"] = {
    ...{ checkpoints: [UNDO], isFor: () => true, bases: () => [], checkpoint: uploaded },
    ...{ writtenMark: async () => "1", asLive: async () => undefined },
    live: async () => ({ ...(await uploaded()), history: ["v1"], undo, written: "1" }),
  };
  await using durability = new Durability({ store, upload: volume, log: pino({ level: "silent" }), intervalMs: 3_600_000 });
  durability.assign(PLACE);
  await durability.sync();
}

async function start(store: DirectoryStore, ledger: Ledger): Promise<SwitchOptions | undefined> {
  const head = await readHead(store, new OrgKeys("hob").sprite("sprite-1").head);
  const assignment: StorageAssignment = { ...PLACE, base: { root: ROOT, volumeBytes: head?.head.volumeBytes ?? 0 } };
  let switched: SwitchOptions | undefined;
  const parts = {
    store,
    volume: { ledger, pool: { createThin: async () => {} } },
    treeSwitch: {
      stage: async () => ({}),
      discard: async () => {},
      switchToStaged: async (_staged: unknown, to: SwitchOptions) => {
        switched = to;
      },
    },
  };
  await coldStart(parts as unknown as ColdStartParts, assignment);
  return switched;
}

for (const [undo, expected] of [
  ["auto-9", "auto-9"],
  ["auto-8", null],
] as const) {
  test(`a restore before a start from the store can be undone after it, if its checkpoint is there: ${undo}`, async () => {
    const directory = mkdtempSync(join(tmpdir(), "hob-cold-start-"));
    try {
      const store = await DirectoryStore.open(join(directory, "store"));
      await acquire({ store, org: "hob", sprite: "sprite-1", owner: "here", initial: { volumeBytes: 1 << 30 } });
      await upload(store, undo);
      const ledger = await Ledger.create(join(directory, "volumes.json"));
      assert.deepEqual(await start(store, ledger), { history: ["v1"], undo: expected });
      assert.equal(ledger.find("auto-9")?.reason, "restore");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}
