/**
 * All tests: static checks, unit tests of every package, then the end-to-end suites on real VMs.
 * Arguments choose: `npm test -- unit`, `npm test -- e2e`, `npm test -- e2e exec` (files whose name contains "exec").
 */
import { globSync } from "node:fs";
import { runSteps, type ScriptStep, toolSteps } from "./lib/steps.ts";

const [kind, pattern = ""] = process.argv.slice(2);

const suite = (title: string, glob: string, concurrency: number): ScriptStep => {
  const files = globSync(glob)
    .filter((file) => file.includes(pattern))
    .sort();
  return { title, argv: [process.execPath, "--test", `--test-concurrency=${concurrency}`, "--test-reporter=spec", ...files] };
};

const steps = {
  tools: toolSteps(),
  images: [{ title: "images", argv: [process.execPath, "bin/hob", "image", "build"] }],
  unit: [suite("unit tests", "packages/*/test/**/*.test.ts", 2)],
  // One file at a time: each runs VMs, and two at once are as many as two cores carry under emulation.
  e2e: [suite("end-to-end tests on real VMs", "test/e2e/**/*.test.ts", 1)],
};

if (kind === "unit") process.exitCode = await runSteps(steps.unit);
else if (kind === "e2e") process.exitCode = await runSteps([...steps.images, ...steps.e2e]);
else process.exitCode = await runSteps([...steps.tools, ...steps.unit, ...steps.images, ...steps.e2e]);
