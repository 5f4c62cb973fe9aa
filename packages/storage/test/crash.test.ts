import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fsck } from "../src/maintenance/fsck.ts";
import { collectGarbage } from "../src/maintenance/gc.ts";
import { acquire } from "../src/ownership/acquire.ts";
import type { Ownership } from "../src/ownership/ownership.ts";
import { BlockReader } from "../src/read/block-reader.ts";
import { DirectoryStore } from "../src/store/directory-store.ts";
import { applyTo, differences, type Model } from "./support/blocks.ts";

const UPLOADER = join(import.meta.dirname, "support/crashing-uploader.ts");

interface Line {
  id: string;
  root?: string | null;
  changes?: [number, number][];
}

/** Runs an uploader until it has said this many lines, and kills it at once. */
async function runAndKill(path: string, round: number, lines: number): Promise<Line[]> {
  const child = fork(UPLOADER, [path, String(round)], { silent: true });
  const said: Line[] = [];
  const { promise: enough, resolve, reject } = Promise.withResolvers<void>();
  let text = "";
  child.stdout?.on("data", (data) => {
    text += data;
    const whole = text.split("\n");
    text = whole.pop() ?? "";
    said.push(...whole.map((line) => JSON.parse(line)));
    if (said.length >= lines) resolve();
  });
  let errors = "";
  child.stderr?.on("data", (data) => {
    errors += data;
  });
  child.once("exit", () => reject(new Error(`the uploader ended by itself: ${errors}`)));
  await enough;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
  return said;
}

/** Everything that was acknowledged is there and reads back; at most one more is, that there was no time to say. */
async function check(store: DirectoryStore, owned: Ownership, acknowledged: ReadonlyMap<string, Model>): Promise<void> {
  const listed = owned.head.checkpoints.map(({ id }) => id);
  assert.deepEqual(listed.slice(0, acknowledged.size), [...acknowledged.keys()]);
  assert.ok(listed.length <= acknowledged.size + 1);
  for (const [id, expected] of acknowledged) {
    const reader = new BlockReader({ store, org: "org", root: (await owned.readCheckpoint(id)).root });
    assert.equal(await reader.map.storedBlocks(), expected.size);
    assert.deepEqual(await differences(reader, expected, expected.keys()), [], id);
  }
}

/** Back to the newest acknowledged checkpoint, as a restore does it. */
async function rewind(owned: Ownership, acknowledged: ReadonlyMap<string, Model>): Promise<void> {
  for (const { id } of owned.head.checkpoints) if (!acknowledged.has(id)) await owned.deleteCheckpoint(id);
  const last = [...acknowledged.keys()].at(-1);
  await owned.publish({ root: last === undefined ? null : (await owned.readCheckpoint(last)).root });
}

describe("an uploader that is killed", () => {
  it("has lost nothing that it had acknowledged, and can go on", async () => {
    const root = await mkdtemp(join(tmpdir(), "hob-crash-"));
    const store = await DirectoryStore.open(root);
    try {
      const acknowledged = new Map<string, Model>();
      let model: Model = new Map();
      for (let round = 0; round < 4; round++) {
        for (const { id, changes } of await runAndKill(root, round, 3 + round)) {
          if (changes === undefined) continue;
          model = applyTo(model, changes);
          acknowledged.set(id, model);
        }
        const owned = await acquire({ store, org: "org", sprite: "s1", owner: "host" });
        await check(store, owned, acknowledged);
        await rewind(owned, acknowledged);
        assert.deepEqual((await collectGarbage({ store, org: "org", graceMs: 0 })).damaged, []);
        assert.deepEqual((await fsck({ store, org: "org" })).damage, []);
      }
      assert.ok(acknowledged.size >= 10);
    } finally {
      store.close();
      await rm(root, { recursive: true, force: true });
    }
  });
});
