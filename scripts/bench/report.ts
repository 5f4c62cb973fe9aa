import { execFileSync } from "node:child_process";
import { cpus, loadavg, totalmem } from "node:os";
import { budgetOf, keeps, type Row, ratioOf } from "./stats.ts";

/** What one part has to say. */
export interface Section {
  name: string;
  /** when and where, and how many rounds */
  circumstances: string;
  rows: readonly Row[];
  /** a table of the part's own, in Markdown, after the rows */
  appendix?: string;
}

/** Where figures come from. The load of a machine that did something else meanwhile shows. */
export function describeMachine(quick: boolean): string {
  const kernel = execFileSync("uname", ["-r"], { encoding: "utf8" }).trim();
  const qemu = /version (\S+)/.exec(execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }))?.[1];
  const machine = `${cpus().length} x ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 1024 ** 3)} GB, Linux ${kernel}, QEMU ${qemu}`;
  const date = new Date().toISOString().slice(0, 10);
  return `${date}, ${machine}${quick ? ", --quick" : ""}; load before: ${(loadavg()[0] ?? 0).toFixed(1)}`;
}

function quantity(value: number, unit: Row["unit"]): string {
  if (Number.isNaN(value)) return "not measured";
  const whole = unit !== "x" && (Math.abs(value) >= 10 || Number.isInteger(value));
  const text = `${value.toFixed(whole ? 0 : 2)}${unit.startsWith("/") ? "" : " "}${unit}`;
  return text.trim();
}

function cellsOf(row: Row): string[] {
  const ratio = ratioOf(row);
  const kept = keeps(row);
  const beside = row.beside === undefined ? [] : [`${row.beside.what}: ${quantity(row.beside.value, row.unit)}`];
  return [
    row.what,
    quantity(row.value, row.unit),
    String(row.n),
    [...beside, ...(row.note === undefined ? [] : [row.note])].join("; "),
    ratio === undefined || Number.isNaN(ratio) ? "" : ratio.toFixed(2),
    budgetOf(row),
    kept === undefined ? "" : kept ? "kept" : "missed",
  ];
}

/** A Markdown table with columns of equal width: read in a terminal and kept in documents alike. */
export function markdownTable(head: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((line) => line[column]?.length ?? 0)));
  const format = (line: readonly string[]) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [format(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...body.map(format)].join("\n");
}

const HEAD = ["what", "measured", "n", "beside", "ratio", "budget", ""];

export function sectionToMarkdown({ name, circumstances, rows, appendix }: Section): string {
  const parts = [`## ${name}`, circumstances, markdownTable(HEAD, rows.map(cellsOf)), ...(appendix === undefined ? [] : [appendix])];
  return `${parts.join("\n\n")}\n`;
}

/**
 * A page of sections with these in place of those of the same names; the others stay as they are. Sections come in the given
 * order of names; one that is no longer among them is dropped.
 */
export function updatePage(page: string, sections: readonly Section[], order: readonly string[]): string {
  const [head = "", ...old] = page.split(/^(?=## )/m);
  const texts = new Map(old.map((text) => [/^## (.*)/.exec(text)?.[1]?.trim() ?? "", text.trimEnd()]));
  for (const section of sections) texts.set(section.name, sectionToMarkdown(section).trimEnd());
  const kept = order.flatMap((name) => texts.get(name) ?? []);
  return `${[head.trimEnd(), ...kept].join("\n\n")}\n`;
}
