import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { SpriteFiles } from "../src/runtime/paths.ts";
import { forgetRest, noteRest, readRest } from "../src/runtime/rest.ts";

test("what the store has of a sprite that sleeps is known until it starts, or the host does", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "hobd-rest-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const files = { rest: join(folder, "rest.json") } as SpriteFiles;
  assert.equal(await readRest(files), undefined);
  await noteRest(files, undefined);
  assert.ok(!existsSync(files.rest));
  await noteRest(files, "w1");
  assert.equal(await readRest(files), "w1");
  const text = readFileSync(files.rest, "utf8");
  await forgetRest(files);
  await forgetRest(files);
  assert.equal(await readRest(files), undefined);
  writeFileSync(files.rest, text.replace(/"hostBoot":"[^"]*"/, '"hostBoot":"another"'));
  assert.equal(await readRest(files), undefined, "a crash of the host may have brought it back");
  for (const damaged of ["", "null", "{}", text.slice(0, -1)]) {
    writeFileSync(files.rest, damaged);
    assert.equal(await readRest(files), undefined, damaged);
  }
  await noteRest({ rest: join(folder, "missing", "rest.json") } as SpriteFiles, "w1");
});
