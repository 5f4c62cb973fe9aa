import type { GcReport } from "@hob/protocol/api/storage.ts";
import type { Command } from "commander";
import { durationSeconds } from "../arguments.ts";
import { type Cli, EXIT } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatBytes, printable } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";

interface GcFlags extends GlobalFlags {
  grace?: number;
  dryRun?: boolean;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("gc")
    .description("Remove from the object store what no sprite and no checkpoint reaches; safe while sprites run")
    .option(
      "--grace <time>",
      "keep what is younger than this; less than 2h only while no sprite runs, as uploads need it (default 1d)",
      durationSeconds,
    )
    .option("-n, --dry-run", "only say what would be removed")
    .option("--json", "print JSON");
  withExample(command, "hob gc --dry-run");
  command.action((_flags: GcFlags, self: Command) => collect(cli, self.optsWithGlobals<GcFlags>()));
};

async function collect(cli: Cli, flags: GcFlags): Promise<void> {
  const dryRun = flags.dryRun === true;
  const storage = await (await cli.client(flags)).storage();
  const request = { dry_run: dryRun, ...(flags.grace === undefined ? {} : { grace_seconds: flags.grace }) };
  const report = await withProgress(cli, "Looking for what nothing reaches", storage.collectGarbage(request));
  if (report.damaged.length > 0) cli.exitStatus = EXIT.failure;
  if (flags.json) return cli.printJson(report);
  const { deletedPacks, deletedPages, deletedDocuments, deletedBytes, keptYoung } = report;
  for (const line of describeDamage(cli, report)) cli.print(line);
  const removed = `${formatBytes(deletedBytes)} in ${deletedPacks} packs, ${deletedPages} pages and ${deletedDocuments} documents`;
  cli.print(`${dryRun ? "Would remove" : cli.style.green("Removed")} ${removed}`);
  if (keptYoung > 0) cli.note(`${keptYoung} more that nothing reaches are younger than the grace period, and stay for now.`);
}

/** Checkpoints that are named of one damage. */
const CHECKPOINTS_SHOWN = 8;

function describeDamage(cli: Cli, { damaged, holders }: GcReport): string[] {
  if (damaged.length === 0) return [];
  const lines = damaged.flatMap((key) => {
    const sprites = Map.groupBy(
      holders.filter((holder) => holder.key === key),
      ({ sprite }) => sprite,
    );
    return [`${cli.style.red("damaged")}  ${printable(key)}`, ...[...sprites.values()].flatMap(describeHolders)];
  });
  return [...lines, "No pack and no page was removed because of that, of no sprite: any of them may be what a damaged page names."];
}

function describeHolders(of: GcReport["holders"]): string[] {
  const [{ sprite, name } = { sprite: "", name: null }] = of;
  const checkpoints = of.flatMap(({ checkpoint }) => checkpoint ?? []);
  const more = checkpoints.length > CHECKPOINTS_SHOWN ? `, and ${checkpoints.length - CHECKPOINTS_SHOWN} more` : "";
  const needs = [
    ...(of.some(({ checkpoint, isBase }) => checkpoint === null && !isBase) ? ["its newest state"] : []),
    ...(checkpoints.length === 0 ? [] : [`checkpoints ${checkpoints.slice(0, CHECKPOINTS_SHOWN).join(", ")}${more}`]),
    ...(of.some(({ isBase }) => isBase) ? ["what its machine reads through"] : []),
  ];
  return [`  of sprite ${printable(name ?? sprite)}: ${printable(needs.join("; "))}`, `    ${printable(adviceFor(of, name))}`];
}

function adviceFor(of: GcReport["holders"], name: string | null): string {
  if (name === null) return "another host has this sprite: repair or destroy it there";
  if (of.every(({ isBase }) => isBase)) return `no state needs it: 'hob fork ${name} NEW', then 'hob destroy ${name}'`;
  return `'hob fsck ${name} --repair' brings back what its machine has; what stays damaged goes with its checkpoints, or 'hob destroy ${name}'`;
}
