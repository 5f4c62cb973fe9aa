import { execFileSync } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { keeps, type Row, ratioOf } from "./stats.ts";

export interface Report {
  date: string;
  machine: string;
  rows: Row[];
}

export function describeMachine(): string {
  const kernel = execFileSync("uname", ["-r"], { encoding: "utf8" }).trim();
  const qemu = /version (\S+)/.exec(execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }))?.[1];
  return `${cpus().length} x ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 1024 ** 3)} GB, Linux ${kernel}, QEMU ${qemu}`;
}

function quantity(value: number, unit: Row["unit"]): string {
  if (Number.isNaN(value)) return "not measured";
  return `${value.toFixed(unit === "x" || value < 10 ? 2 : 0)} ${unit}`;
}

/** As a Markdown table: read in a terminal and kept in docs/benchmarks.md alike. */
export function toMarkdown({ date, machine, rows }: Report): string {
  const lines = rows.map((row) => {
    const ratio = ratioOf(row);
    const kept = keeps(row);
    const budget =
      row.budget === undefined
        ? ""
        : `${row.budget.kind === "ratio" ? "ratio " : ""}${row.unit === "MB/s" ? "≥" : "≤"} ${row.budget.limit}`;
    return [
      row.what,
      quantity(row.value, row.unit),
      String(row.n),
      row.beside === undefined ? (row.note ?? "") : `${row.beside.what}: ${quantity(row.beside.value, row.unit)}`,
      ratio === undefined ? "" : `${ratio.toFixed(2)}`,
      budget,
      kept === undefined ? "" : kept ? "kept" : "missed",
    ];
  });
  const table = [["what", "measured", "n", "beside", "ratio", "budget", ""], ...lines];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0))) ?? [];
  const format = (line: string[]) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const [head = [], ...body] = table;
  const rule = `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return [`${date}, ${machine}`, "", format(head), rule, ...body.map(format)].join("\n");
}
