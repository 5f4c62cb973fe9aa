/**
 * Measures what docs/design.md promises, each figure beside what it is held against, in one run.
 *
 *   npm run bench [-- --json] [--quick] [--save] [create|running|url|sleeping|checkpoints|lifecycle …]
 *
 * --json prints the report as JSON; --quick takes few rounds; --save also writes docs/benchmarks.md.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { benchCheckpoints } from "./bench/checkpoints.ts";
import { benchCreate } from "./bench/create.ts";
import { describeMachine, type Report, toMarkdown } from "./bench/report.ts";
import { benchLifecycle, benchRunning } from "./bench/running.ts";
import { benchSleeping } from "./bench/sleeping.ts";
import type { Row } from "./bench/stats.ts";
import { benchUrl } from "./bench/url.ts";
import { scriptArguments } from "./lib/arguments.ts";
import { PROJECT } from "./lib/steps.ts";

const BENCHES: Record<string, (quick: boolean) => Promise<Row[]>> = {
  create: (quick) => benchCreate(quick ? 3 : 20),
  running: (quick) => benchRunning(quick ? 10 : 100),
  url: (quick) => benchUrl(quick ? 200 : 2_000),
  sleeping: () => benchSleeping(),
  checkpoints: (quick) => benchCheckpoints(quick ? 3 : 10),
  lifecycle: (quick) => benchLifecycle(quick ? 2 : 10),
};

const options = { json: { type: "boolean" }, quick: { type: "boolean" }, save: { type: "boolean" } } as const;
const { values, positionals } = scriptArguments(`npm run bench [-- --json] [--quick] [--save] [${Object.keys(BENCHES).join("|")} …]`, {
  options,
  allowPositionals: true,
});
const unknown = positionals.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) {
  console.error(`bench: no such part: ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}`);
  process.exit(2);
}

const rows: Row[] = [];
for (const [name, bench] of Object.entries(BENCHES)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  console.error(`measuring: ${name}`);
  rows.push(...(await bench(values.quick === true)));
}
const report: Report = { date: new Date().toISOString().slice(0, 10), machine: describeMachine(), rows };
console.log(values.json === true ? JSON.stringify(report, null, 2) : toMarkdown(report));
if (values.save === true) {
  const head =
    "# Benchmarks\n\nThe last figures of `npm run bench -- --save`. Times are of the machine named; ratios carry over better.\n\n";
  writeFileSync(join(PROJECT, "docs/benchmarks.md"), `${head}${toMarkdown(report)}\n`);
}
process.exit(0);
