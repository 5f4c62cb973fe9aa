import assert from "node:assert/strict";
import { test } from "node:test";
import { HobError } from "@hob/protocol";
import type { Uploader } from "@hob/storage";
import { VolumeUpload } from "../src/durability/volume-upload.ts";
import { initialState, type LedgerState } from "../src/volume/ledger.ts";
import type { ThinVolume } from "../src/volume/thin-volume.ts";

test("no snapshot of the live volume is taken for an upload when the pool has no room for one, and nothing is left", async () => {
  let snapshots = 0;
  let reaped = 0;
  const ledger = {
    state: initialState as LedgerState,
    reserveThin: async () => 7,
    update: async (change: (state: LedgerState) => LedgerState) => {
      ledger.state = change(ledger.state);
    },
  };
  const volume = { ledger, snapshotLive: async () => snapshots++, reap: async () => reaped++ } as unknown as ThinVolume;
  const full = () => Promise.reject(new HobError("no_space", "full"));
  const upload = new VolumeUpload(
    volume,
    () => assert.fail("nothing is uploaded") as Uploader,
    full,
    () => [],
  );
  await assert.rejects(upload.live({}), (error) => error instanceof HobError && error.code === "no_space");
  assert.deepEqual([snapshots, reaped, ledger.state.uploading, ledger.state.pending], [0, 1, null, [7]]);
});
