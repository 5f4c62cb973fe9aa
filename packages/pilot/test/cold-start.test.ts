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

async function upload(store: DirectoryStore, undo: string, numbers?: DurabilityParts["numbers"]): Promise<void> {
  const uploaded = async () => {
    const result = { root: ROOT, storedBlocks: 1, stats: STATS, startedAt: Date.now() };
    return { result, keep: async () => {}, [Symbol.asyncDispose]: async () => {} };
  };
  const volume: DurabilityParts["upload"] = {
    ...{ checkpoints: [UNDO], isFor: () => true, bases: () => [], checkpoint: uploaded },
    ...{ writtenMark: async () => "1", asLive: async () => undefined },
    live: async () => ({ ...(await uploaded()), history: ["v1"], undo, written: "1" }),
  };
  const log = pino({ level: "silent" });
  await using durability = new Durability({ store, upload: volume, log, intervalMs: 3_600_000, ...(numbers && { numbers }) });
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

async function withStore(body: (store: DirectoryStore, ledgerOf: (name: string) => Promise<Ledger>) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "hob-cold-start-"));
  try {
    const store = await DirectoryStore.open(join(directory, "store"));
    await acquire({ store, org: "hob", sprite: "sprite-1", owner: "here", initial: { volumeBytes: 1 << 30 } });
    await body(store, (name) => Ledger.create(join(directory, name)));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("numbers that checkpoints had are not given again after a start from the store, whatever became of them", () =>
  withStore(async (store, ledgerOf) => {
    // `auto-12` and `v3` were deleted before they came into the store.
    await upload(store, "auto-9", () => ({ nextVersion: 4, nextAutomatic: 13 }));
    const ledger = await ledgerOf("volumes.json");
    await start(store, ledger);
    assert.deepEqual([ledger.state.nextVersion, ledger.state.nextAutomatic], [4, 13]);
  }));

test("a head that does not say which numbers there were tells them by the checkpoints that it names", () =>
  withStore(async (store, ledgerOf) => {
    await upload(store, "auto-9");
    const { head: key } = new OrgKeys("hob").sprite("sprite-1");
    const { lastAutomatic, ...old } = (await readHead(store, key))?.head ?? assert.fail();
    assert.equal(lastAutomatic, 9);
    await store.put(key, Buffer.from(JSON.stringify(old)));
    const ledger = await ledgerOf("volumes.json");
    await start(store, ledger);
    assert.deepEqual([ledger.state.nextVersion, ledger.state.nextAutomatic], [1, 10]);
  }));

for (const [undo, expected] of [
  ["auto-9", "auto-9"],
  ["auto-8", null],
] as const) {
  test(`a restore before a start from the store can be undone after it, if its checkpoint is there: ${undo}`, () =>
    withStore(async (store, ledgerOf) => {
      await upload(store, undo);
      const ledger = await ledgerOf("volumes.json");
      assert.deepEqual(await start(store, ledger), { history: ["v1"], undo: expected });
      assert.equal(ledger.find("auto-9")?.reason, "restore");
    }));
}
