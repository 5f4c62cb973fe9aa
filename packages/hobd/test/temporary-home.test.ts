import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryHome } from "./support/test-daemon.ts";

const BOUND_MS = 60_000;

test("the home of a test that is given up in the middle goes", async () => {
  await using home = await temporaryHome();
  const [file, said] = [join(home.path, "hangs.test.ts"), join(home.path, "said")];
  writeFileSync(
    file,
    `import { writeFileSync } from "node:fs";
     import { test } from "node:test";
     import { temporaryHome } from ${JSON.stringify(join(import.meta.dirname, "support/test-daemon.ts"))};
     test("hangs", { timeout: 1 }, async () => {
       await using home = await temporaryHome();
       writeFileSync(${JSON.stringify(said)}, home.path);
       await new Promise(() => {});
     });`,
  );
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  assert.throws(() => execFileSync(process.execPath, [file], { stdio: "ignore", env, timeout: BOUND_MS, killSignal: "SIGKILL" }), {
    status: 1,
  });
  assert.match(readFileSync(said, "utf8"), /hobd-test-/);
  assert.ok(!existsSync(readFileSync(said, "utf8")));
});
