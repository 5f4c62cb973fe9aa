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
    .option("--grace <time>", "keep what is younger than this; uploads under way need it (default 1d)", durationSeconds)
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
  const { deletedPacks, deletedPages, deletedDocuments, deletedBytes, keptYoung, damaged } = report;
  for (const key of damaged) cli.print(`${cli.style.red("damaged")}  ${printable(key)}: nothing was removed because of it`);
  const removed = `${formatBytes(deletedBytes)} in ${deletedPacks} packs, ${deletedPages} pages and ${deletedDocuments} documents`;
  cli.print(`${dryRun ? "Would remove" : cli.style.green("Removed")} ${removed}`);
  if (keptYoung > 0) cli.note(`${keptYoung} more that nothing reaches are younger than the grace period, and stay for now.`);
}
