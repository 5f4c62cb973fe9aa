import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, stat, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { DirectoryStore } from "../src/store/directory-store.ts";
import { MemoryStore } from "./support/memory-store.ts";
import { torture } from "./support/torture.ts";
import type { TortureReport } from "./support/torture-report.ts";

const seedOf = (fallback: number): number => Number(process.env.HOB_TORTURE_SEED ?? fallback);

function show(report: TortureReport): void {
  const operations = Object.values(report.operations).reduce((sum, count) => sum + count, 0);
  console.log(
    `seed ${report.seed}: ${operations} operations, ${report.faults} faults, ${report.uncertain} uncertain, ${report.verifiedStates} states verified, 0 lost`,
  );
}

describe("torture of the storage", () => {
  for (const seed of [1, Date.now() % 1_000_000]) {
    it(`loses nothing that was acknowledged (seed ${seed})`, async () => {
      const store = new MemoryStore();
      let passed = 0;
      store.now = () => Date.now() + passed;
      const advance = (ms: number): void => {
        passed += ms;
      };
      const report = await torture({ seed: seedOf(seed), operations: 60, store, advance });
      assert.ok(report.faults > 0);
      show(report);
    });
  }

  it("loses nothing in a directory", async () => {
    const root = await mkdtemp(join(tmpdir(), "hob-torture-"));
    const store = await DirectoryStore.open(root);
    try {
      const advance = async (ms: number): Promise<void> => {
        for (const name of await readdir(join(root, "orgs"), { recursive: true })) {
          const path = join(root, "orgs", name);
          const stats = await stat(path);
          if (stats.isFile()) await utimes(path, stats.atime, new Date(stats.mtimeMs - ms));
        }
      };
      show(await torture({ seed: seedOf(7), operations: 30, store, advance }));
    } finally {
      store.close();
      await rm(root, { recursive: true, force: true });
    }
  });
});
