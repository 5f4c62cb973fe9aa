import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { entriesInUse, type ImageSet } from "@hob/images";
import { SystemCommandRunner } from "@hob/linux";
import { RuntimePaths } from "../src/runtime/paths.ts";
import { TemplateStore } from "../src/runtime/templates.ts";
import type { VmmDriver } from "../src/vmm/driver.ts";
import { temporaryHome } from "./support/test-daemon.ts";

const MACHINE = { cpus: 1, ramMb: 256, storageGb: 10 };
const DAY_MS = 24 * 60 * 60_000;

test("a template that a daemon has used is marked, and counts as in use until the daemon stops or a day has passed", async () => {
  await using home = await temporaryHome();
  const paths = new RuntimePaths(home.path, join(home.path, "cache"));
  const driver = { fingerprint: async () => "fake" } as VmmDriver;
  const events = { building: () => assert.fail("it is there"), built: () => {} };
  const store = new TemplateStore(paths, { driver, images: { hash: "images" } as ImageSet }, new SystemCommandRunner(), events);
  const prefix = createHash("sha256").update("images").update("fake").digest("hex").slice(0, 16);
  const { directory, stateInfo } = paths.template(`${prefix}-1cpu-256mb-10gb`);
  await mkdir(directory);
  await writeFile(stateInfo, JSON.stringify({ pilotToken: "token" }));
  await utimes(directory, 1, 1);
  const inUse = async () => [...(await entriesInUse(paths.templates))].length;
  try {
    assert.equal(await inUse(), 0);
    for (let round = 0; round < 2; round++) assert.equal((await store.ensure(MACHINE)).pilotToken, "token");
    assert.ok((await stat(directory)).mtimeMs > Date.now() - DAY_MS);
    assert.equal(await inUse(), 1);
    store.releaseUnused(Date.now() + DAY_MS / 2);
    assert.equal(await inUse(), 1);
    store.releaseUnused(Date.now() + 2 * DAY_MS);
    assert.equal(await inUse(), 0);
    await store.ensure(MACHINE);
    assert.equal(await inUse(), 1);
    await store.stop();
    assert.equal(await inUse(), 0);
  } finally {
    await rm(paths.run, { recursive: true, force: true });
  }
});
