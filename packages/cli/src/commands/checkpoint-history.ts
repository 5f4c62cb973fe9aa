import type { DiffProgress } from "@hob/client/checkpoints.ts";
import type { FileEntry } from "@hob/protocol/api/files.ts";
import type { TreeDifference } from "@hob/protocol/api/history.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { describeAttribute } from "../output/attribute.ts";
import { formatBytes, printable } from "../output/format.ts";
import { pipeOut } from "../output/pipe-out.ts";
import { withProgress } from "../output/progress.ts";
import { renderTable } from "../output/table.ts";
import { withExample } from "../program.ts";
import { splitVersion, takeSpriteName } from "../sprite-argument.ts";

interface HistoryFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
  text?: boolean;
  path?: string;
  recursive?: boolean;
}

const PATH_USAGE = "NAME@ID:/PATH";

/** What reads checkpoints without going back to them: `hob checkpoint diff`, `files`, `cat`. */
export function addHistory(group: Command, cli: Cli): void {
  const diffCommand = group
    .command("diff")
    .description("Show what differs between two checkpoints, or between one and the present")
    .argument("[name]", "name of the sprite")
    .argument("[from]", "id of the earlier checkpoint")
    .argument("[to]", "id of the later one, or current (the default)")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--text", "the lines of text files that differ, too")
    .option("--path <path>", "only this path and what is below")
    .option("--json", "print one JSON object per path");
  withExample(diffCommand, "hob checkpoint diff web v1 v2", "hob checkpoint diff web v3 --path /etc --text");
  diffCommand.action((...given: unknown[]) => run(given, (operands, flags) => diff(cli, operands, flags)));
  const filesCommand = group
    .command("files")
    .description("List a folder of a checkpoint")
    .argument("<place>", PATH_USAGE)
    .option("-r, --recursive", "and all below")
    .option("--json", "print JSON");
  withExample(filesCommand, "hob checkpoint files web@v3:/etc");
  filesCommand.action((...given: unknown[]) => run(given, ([place = ""], flags) => listFiles(cli, place, flags)));
  const cat = group.command("cat").description("Write a file of a checkpoint to standard output").argument("<place>", PATH_USAGE);
  withExample(cat, "hob checkpoint cat web@v3:/etc/hosts");
  cat.action((...given: unknown[]) => run(given, ([place = ""], flags) => show(cli, place, flags)));
}

const run = (given: unknown[], work: (operands: string[], flags: HistoryFlags) => Promise<void>): Promise<void> => {
  const self = given.at(-1) as Command;
  return work(self.args, self.optsWithGlobals<HistoryFlags>());
};

const SIGNS = { added: "+", removed: "-", changed: "~", type: "!" } as const;

async function diff(cli: Cli, operands: readonly string[], flags: HistoryFlags): Promise<void> {
  const usage = "hob checkpoint diff NAME FROM [TO]";
  const { name, from, to } = takeStates(operands, flags.sprite, usage);
  const checkpoints = await (await cli.client(flags)).checkpoints(name);
  const seen = { count: 0, paths: 0, bytes: 0 };
  const onProgress = ({ paths, bytes }: DiffProgress) => void Object.assign(seen, { paths, bytes });
  // What is not printed on a terminal is often printed there by a pager, which draws on all of it.
  const plain = !cli.stderr.isTTY || !cli.stdout.isTTY;
  const printAll = async () => {
    const options = { to, path: flags.path, text: flags.text, ...(plain ? {} : { onProgress }) };
    for await (const difference of checkpoints.diff(from, options)) {
      seen.count++;
      if (flags.json) cli.print(JSON.stringify(difference));
      else printDifference(cli, difference);
    }
  };
  const what = `Comparing ${from} of ${name} with ${to ?? "the present"}`;
  await withProgress(cli, what, printAll(), { plain, state: () => describeProgress(seen) });
  if (seen.count === 0 && !flags.json) cli.note("No differences.");
}

function describeProgress({ count, paths, bytes }: { count: number; paths: number; bytes: number }): string {
  if (paths === 0) return "";
  const read = bytes === 0 ? "" : `, ${formatBytes(bytes)} of large files read`;
  return `${paths} paths looked at, ${count} differ${read}`;
}

function takeStates(operands: readonly string[], flag: string | undefined, usage: string) {
  // Two operands are a name and a checkpoint, unless -s or the folder names the sprite.
  const { name, rest } = takeSpriteName(operands, flag, usage, 1);
  const [from, to, extra] = rest;
  if (from === undefined) throw new HobError("usage", "no checkpoint named", { hint: usage });
  if (extra !== undefined) throw new HobError("usage", `what is '${extra}'?`, { hint: usage });
  return { name, from, to: to?.toLowerCase() === "current" ? undefined : to };
}

function printDifference(cli: Cli, { path, change, before, after, attributes, text, binary }: TreeDifference): void {
  const { green, red, yellow } = cli.style;
  const paint = { added: green, removed: red, changed: yellow, type: yellow }[change];
  cli.print(`${paint(SIGNS[change])} ${printable(path)}${detailOf(before, after)}`);
  for (const attribute of attributes ?? []) cli.print(`  ${describeAttribute(attribute)}`);
  if (binary) cli.print("  (no text, or too large to be compared line by line)");
  if (text !== undefined) for (const line of text.replace(/\n$/, "").split("\n")) cli.print(paintLine(cli, printableLine(line)));
}

function detailOf(before: TreeDifference["before"], after: TreeDifference["after"]): string {
  const sizeOf = (state: TreeDifference["before"]) => (state?.kind === "file" ? `${state.size} bytes` : state?.kind);
  if (before === null || after === null) return `  ${sizeOf(before ?? after)}`;
  const pairs = [
    [sizeOf(before), sizeOf(after)],
    [before.mode, after.mode],
    [`${before.uid}:${before.gid}`, `${after.uid}:${after.gid}`],
  ];
  const differing = pairs.filter(([one, other]) => one !== other).map(([one, other]) => `${one} -> ${other}`);
  return differing.length === 0 ? "" : `  ${differing.join(", ")}`;
}

function paintLine(cli: Cli, line: string): string {
  if (line.startsWith("+")) return cli.style.green(line);
  return line.startsWith("-") ? cli.style.red(line) : line;
}

/** Tabs are part of a text; all else could be a command to the terminal. */
const printableLine = (line: string): string => line.split("\t").map(printable).join("\t");

export async function listFiles(cli: Cli, place: string, flags: HistoryFlags): Promise<void> {
  const { name, id, path } = parsePlace(place);
  const entries = await (await (await cli.client(flags)).checkpoints(name)).files(id, path, { recursive: flags.recursive });
  if (flags.json) return cli.printJson(entries);
  const nameOf = (entry: FileEntry) =>
    printable(entry.name + (entry.isDir ? "/" : entry.target === undefined ? "" : ` -> ${entry.target}`));
  const rows = entries.map((entry) => [entry.mode, `${entry.uid}:${entry.gid}`, String(entry.size), entry.modTime, nameOf(entry)]);
  cli.print(
    renderTable(["MODE", "OWNER", "SIZE", "MODIFIED", "NAME"], rows, (cell, _column, row) => (row < 0 ? cli.style.bold(cell) : cell)),
  );
}

async function show(cli: Cli, place: string, flags: HistoryFlags): Promise<void> {
  const { name, id, path } = parsePlace(place);
  const content = await (await (await cli.client(flags)).checkpoints(name)).content(id, path);
  await pipeOut(cli, content, `show ${path}`);
}

/** `NAME@ID:/PATH`. @throws HobError `usage` */
function parsePlace(text: string): { name: string; id: string; path: string } {
  const [, version = "", path = ""] = /^([^:]*):(\/.*)$/s.exec(text) ?? [];
  const { name, id } = splitVersion(version, PATH_USAGE);
  if (id === undefined) throw new HobError("usage", `'${text}' is no path of a checkpoint`, { hint: `it looks like ${PATH_USAGE}` });
  return { name, id, path };
}
