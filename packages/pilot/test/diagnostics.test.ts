/** The yardstick of file access, with the real program. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SystemCommandRunner } from "@hob/linux";
import { HobError } from "@hob/protocol";
import { Hono } from "hono";
import { diagnostics } from "../src/api/diagnostics.ts";
import type { ThinVolume } from "../src/volume/thin-volume.ts";

const directory = mkdtempSync(join(tmpdir(), "hob-diagnostics-"));
after(() => rmSync(directory, { recursive: true }));

const meter = { program: join(directory, "meter"), file: join(directory, "file") };
execFileSync("sh", [fileURLToPath(new URL("../../../native/build.sh", import.meta.url)), meter.program, "hob-disk-meter"]);

const app = new Hono().route("/", diagnostics(new SystemCommandRunner(), "/nowhere", {} as ThinVolume, meter));
app.onError((error, c) => c.json({ error: error instanceof HobError ? error.code : "internal" }, 400));
const post = (body: object) => app.request("/diagnostics/disk", { method: "POST", body: JSON.stringify(body) });
const run = async (body: object) => (await (await post(body)).json()) as Record<string, unknown>;

test("each pattern says how much it read or wrote, and how long it took", async () => {
  const MIB = 1024 * 1024;
  assert.equal((await run({ pattern: "reserve", size_mb: 3 })).bytes, 0);
  assert.equal(statSync(meter.file).size, 3 * MIB);
  assert.equal((await run({ pattern: "fill", size_mb: 3 })).bytes, 3 * MIB);
  const filled = readFileSync(meter.file);
  assert.ok(!filled.subarray(0, MIB).equals(filled.subarray(MIB, 2 * MIB)), "no two MiB are the same");
  assert.equal((await run({ pattern: "random-fsync", size_mb: 3, operations: 7 })).bytes, 7 * 4096);
  const changed = readFileSync(meter.file);
  assert.equal(changed.length, filled.length, "overwrites stay within the file");
  assert.ok(!changed.equals(filled));
  const { operations, ms } = await run({ pattern: "fill", size_mb: 1 });
  assert.equal(operations, 1);
  assert.ok(Number(ms) > 0);
  assert.equal((await post({ pattern: "remove" })).status, 200);
  assert.ok(!existsSync(meter.file));
});

test("what is no pattern or no size is refused before anything is run, and a failure is an error", async () => {
  for (const body of [
    {},
    { pattern: "x" },
    { pattern: "fill", size_mb: 0 },
    { pattern: "fill", size_mb: 5000 },
    { pattern: "fill", file: "/etc/x" },
  ])
    assert.deepEqual(await run(body), { error: "invalid_request" }, JSON.stringify(body));
  assert.ok(!existsSync(meter.file));
  assert.deepEqual(await run({ pattern: "random-read", operations: 1 }), { error: "command_failed" }, "there is no file");
});
