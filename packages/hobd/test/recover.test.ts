import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pino } from "pino";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { VmRuntime, type VmRuntimeParts } from "../src/runtime/vm-runtime.ts";
import { temporaryHome } from "./support/test-daemon.ts";

test("a template is built ahead only when what a killed daemon left is gone: its VM would be taken for a part of that", async () => {
  await using home = await temporaryHome();
  const paths = new RuntimePaths(home.path, join(home.path, "cache"));
  const left = join(paths.run, "t-left");
  mkdirSync(left, { recursive: true });
  const size = { cpus: 1, ramMb: 256, storageGb: 10 };
  const built: unknown[] = [];
  const parts = {
    paths,
    factory: { driver: { adopt: async () => undefined } },
    templates: { ensure: async (machine: unknown) => built.push([machine, existsSync(left)]) },
    cache: { start: async () => {} },
    log: pino({ level: "silent" }),
    prepare: size,
  } as unknown as VmRuntimeParts;
  try {
    const runtime = new VmRuntime(parts);
    assert.deepEqual(built, []);
    await runtime.recover([]);
    assert.deepEqual(built, [[size, false]]);
  } finally {
    rmSync(paths.run, { recursive: true, force: true });
  }
});
