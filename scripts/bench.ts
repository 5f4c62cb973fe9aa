/**
 * Measures what docs/design.md promises, each figure beside what it is held against, in one run.
 *
 *   npm run bench [-- --json] [--quick] [--save] [--states DIR] [PART …]
 *
 * Without names of parts all are run; `--help` names them. --quick takes few rounds and little data. --json prints the report
 * as JSON. --save puts it into docs/benchmarks.md, in place of what the page had of the same parts. --states keeps what
 * `amplification` has measured in a folder, for `chunks`, which then needs no sprite.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Part, PartFailed, runPart } from "./bench/part.ts";
import { PARTS } from "./bench/parts.ts";
import { describeMachine, type Section, sectionToMarkdown, updatePage } from "./bench/report.ts";
import { scriptArguments } from "./lib/arguments.ts";
import { Scratch } from "./lib/scratch.ts";
import { PROJECT } from "./lib/steps.ts";

const PAGE = join(PROJECT, "docs/benchmarks.md");

const names = PARTS.map(({ name }) => name);
const usage = [
  "npm run bench [-- --json] [--quick] [--save] [--states DIR] [PART …]",
  "parts, and the minutes that each may take, quick and in full:",
  ...PARTS.map(
    ({ name, title, boundMinutes: { quick, full } }) =>
      `  ${name.padEnd(14)} ${String(quick).padStart(3)} ${String(full).padStart(4)}  ${title}`,
  ),
].join("\n");
const { values, positionals } = scriptArguments(usage, {
  options: { json: { type: "boolean" }, quick: { type: "boolean" }, save: { type: "boolean" }, states: { type: "string" } },
  allowPositionals: true,
} as const);
const unknown = positionals.filter((name) => !names.includes(name));
if (unknown.length > 0) {
  console.error(`bench: no such part: ${unknown.join(", ")}; there are ${names.join(", ")}`);
  process.exit(2);
}

const interrupted = new AbortController();
Scratch.use(() => interrupted.abort(new Error("interrupted")));
// Of a connection that nobody listens to any more, for one: the part fails, and still gives back what it has taken.
let present = new AbortController();
process.on("uncaughtException", (error) => present.abort(error));

async function measure(part: Part): Promise<Section> {
  const start = performance.now();
  const progress = (text: string): void =>
    console.error(`${part.name} ${((performance.now() - start) / 1000).toFixed(0).padStart(4)} s: ${text}`);
  const quick = values.quick === true;
  const circumstances = describeMachine(quick);
  const states = values.states === undefined ? undefined : resolve(values.states);
  present = new AbortController();
  const signal = AbortSignal.any([interrupted.signal, present.signal]);
  const result = await runPart(part, { quick, states, progress, signal });
  progress("done");
  return { name: part.name, circumstances, ...result };
}

const sections: Section[] = [];
let failed = false;
for (const part of PARTS) {
  if (positionals.length > 0 && !positionals.includes(part.name)) continue;
  if (interrupted.signal.aborted) break;
  try {
    const section = await measure(part);
    sections.push(section);
    if (values.json !== true) console.log(sectionToMarkdown(section));
    // After each: what follows may fail.
    if (values.save === true) writeFileSync(PAGE, updatePage(readFileSync(PAGE, "utf8"), [section], names));
  } catch (error) {
    if (!(error instanceof PartFailed)) throw error;
    console.error(`bench: ${error.message}`);
    failed = true;
  }
}
if (values.json === true) console.log(JSON.stringify(sections, null, 2));
process.exit(failed || interrupted.signal.aborted ? 1 : 0);
