import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Checkpoint, FreezeResponse, StorageStatus } from "@hob/protocol";
import type { SpriteFiles } from "../src/runtime/paths.ts";
import { forgetRest, noteRest, readRest } from "../src/runtime/rest.ts";

const CURRENT: Checkpoint = { id: "Current", create_time: "", comment: "", source_id: "", health: "", history: [], is_auto: false };
const STORAGE: StorageStatus = {
  ...{ enabled: true, durable_at: null, durable_lag_seconds: 0, uploading: false, pending_checkpoints: [] },
  ...{ fetched_bytes: 0, fetched_requests: 0, error: null },
};
const SAID: FreezeResponse = { storedAs: "w1", checkpoints: [CURRENT], storage: STORAGE, lag: null };
const LAG = { lagMs: 5_000, checkpoints: 1, error: "no way there" };
const NOTHING = { storedAs: undefined, said: undefined, behind: undefined };

test("what is known of a sprite that sleeps is so until it starts; after a start of the host, only what the store may lack", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "hobd-rest-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const files = { rest: join(folder, "rest.json") } as SpriteFiles;
  assert.deepEqual(await readRest(files), NOTHING);
  const before = Date.now();
  await noteRest(files, { ...SAID, lag: LAG }, null);
  const { storedAs, said, behind } = await readRest(files);
  assert.deepEqual([storedAs, said?.checkpoints, said?.storage], ["w1", [CURRENT], STORAGE]);
  const at = said?.at ?? 0;
  assert.ok(at >= before && at <= Date.now());
  assert.deepEqual(behind, { since: at - 5_000, checkpoints: 1, error: "no way there" });
  const text = readFileSync(files.rest, "utf8");
  await forgetRest(files);
  await forgetRest(files);
  assert.deepEqual(await readRest(files), NOTHING);
  writeFileSync(files.rest, text.replace(/"hostBoot":"[^"]*"/, '"hostBoot":"another"'));
  assert.deepEqual(await readRest(files), { ...NOTHING, behind }, "a crash of the host may have brought it back");
  for (const damaged of ["", "null", "{}", text.slice(0, -1)]) {
    writeFileSync(files.rest, damaged);
    assert.deepEqual(await readRest(files), NOTHING, damaged);
  }
  await noteRest({ rest: join(folder, "missing", "rest.json") } as SpriteFiles, SAID, null);
});

test("what a pilot does not say is not known, but for what the store lacked a moment before", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "hobd-rest-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const files = { rest: join(folder, "rest.json") } as SpriteFiles;
  await noteRest(files, { storedAs: null, checkpoints: null, storage: STORAGE, lag: null }, LAG);
  assert.deepEqual(await readRest(files), NOTHING, "the newer word counts");
  for (const older of [undefined, { storedAs: null }]) {
    await noteRest(files, older, LAG);
    const { behind, ...others } = await readRest(files);
    assert.deepEqual([behind?.checkpoints, others], [1, { storedAs: undefined, said: undefined }]);
  }
});
