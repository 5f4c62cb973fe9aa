/**
 * All tests: static checks, unit tests of every package, then the end-to-end suites on real VMs.
 * Arguments choose: `npm test -- unit`, `npm test -- e2e`, `npm test -- e2e exec` (files whose name contains "exec").
 */
import { globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Scratch } from "./lib/scratch.ts";
import { runSteps, type ScriptStep, toolSteps } from "./lib/steps.ts";

const SDK_COVERAGE = "test/e2e/sdk-coverage.test.ts";

const [kind, pattern = ""] = process.argv.slice(2);

const testFiles = (glob: string): string[] =>
  globSync(glob)
    .filter((file) => file.includes(pattern))
    .sort();

/** So that a hang is a failure that has a name. Each end-to-end test has a shorter limit of its own. */
const UNIT_TIMEOUT_MS = 25 * 60_000;
const FILE_TIMEOUT_MS = 15 * 60_000;

const run = (concurrency: number, files: readonly string[]): string[] => [
  process.execPath,
  "--test",
  `--test-concurrency=${concurrency}`,
  "--test-reporter=spec",
  ...files,
];

/**
 * One file after the other: each runs VMs, and two at once are as many as two cores carry under emulation. A machine that
 * others use too can hold a VM up for longer than any bound that a user would accept, so a file that fails is run once
 * more, and named at the end.
 */
const endToEnd = (): ScriptStep[] =>
  [...testFiles("test/e2e/**/*.test.ts")]
    .sort((a, b) => Number(a === SDK_COVERAGE) - Number(b === SDK_COVERAGE))
    .map((file) => ({ title: `end-to-end: ${file}`, argv: run(1, [file]), attempts: 2, timeoutMs: FILE_TIMEOUT_MS }));

/** A run of all suites notes which methods of the SDK they call; the last file looks at that. */
function recordSdkCalls(): void {
  if (pattern !== "" || kind === "unit") return;
  const directory = mkdtempSync(join(tmpdir(), "hob-test-"));
  process.env.HOB_SDK_CALLS = join(directory, "sdk-calls");
  writeFileSync(process.env.HOB_SDK_CALLS, "");
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
}

const steps = {
  tools: toolSteps(),
  images: [{ title: "images", argv: [process.execPath, "bin/hob", "image", "build"] }],
  unit: [{ title: "unit tests", argv: run(2, testFiles("{packages/*,scripts}/test/**/*.test.ts")), timeoutMs: UNIT_TIMEOUT_MS }],
  e2e: endToEnd(),
};

recordSdkCalls();
const scratch = Scratch.use();
if (kind === "unit") process.exitCode = await runSteps(steps.unit, scratch);
else if (kind === "e2e") process.exitCode = await runSteps([...steps.images, ...steps.e2e], scratch);
else process.exitCode = await runSteps([...steps.tools, ...steps.unit, ...steps.images, ...steps.e2e], scratch);
