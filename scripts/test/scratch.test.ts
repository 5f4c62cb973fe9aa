import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { isAlive } from "../../test/e2e/support/processes.ts";

const SCRATCH = new URL("../lib/scratch.ts", import.meta.url).href;
const LIMIT = { timeout: 60_000 };

/** Leaves a process that hears of no signal, and a file; then does what it is told. */
const script = (then: string): string => `
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Scratch } from ${JSON.stringify(SCRATCH)};
const scratch = Scratch.use();
const left = spawn("sh", ["-c", "trap '' INT TERM HUP; echo started; sleep 1000 & wait; wait"], { detached: true });
left.stdout.once("data", () => {
  console.log(JSON.stringify({ pid: left.pid, folder: scratch.folder, file: mkdtempSync(join(tmpdir(), "left-")) }));
  ${then}
});
`;

async function run(then: string, signal?: NodeJS.Signals): Promise<{ code: number | null; error: string }> {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script(then)], { stdio: ["ignore", "pipe", "pipe"] });
  const error: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => error.push(chunk));
  const closed = once(child, "close") as Promise<[number | null]>;
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const { pid, folder, file } = JSON.parse(line) as { pid: number; folder: string; file: string };
  assert.ok(file.startsWith(`${folder}/`));
  if (signal !== undefined) child.kill(signal);
  const [code] = await closed;
  assert.ok(!isAlive(pid), "the process");
  assert.ok(!existsSync(folder), "the folder");
  return { code, error: Buffer.concat(error).toString() };
}

describe("nothing stays of a run", () => {
  test("that ends", LIMIT, async () => {
    assert.deepEqual(await run("process.exit(3);"), { code: 3, error: "" });
  });

  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    test(`that ${signal} ends`, LIMIT, async () => {
      assert.deepEqual(await run("setInterval(() => {}, 1_000);", signal), { code, error: "" });
    });
  }

  test("and it is told what goes on", LIMIT, async () => {
    const { error } = await run("console.error(scratch.running().join()); process.exit();");
    assert.match(error, /^process \d+: (sh|sleep) /);
  });
});
