import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatDuration } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { renderTable } from "../output/table.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface BounceFlags extends GlobalFlags {
  json?: boolean;
  sprite?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("bounce")
    .description("Restart a sprite's inner container; its microVM runs on")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob bounce web");
  command.action((name: string | undefined, _flags: BounceFlags, self: Command) => bounce(cli, name, self.optsWithGlobals<BounceFlags>()));
};

async function bounce(cli: Cli, operand: string | undefined, flags: BounceFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob bounce NAME");
  const client = await cli.client(flags);
  const result = await withProgress(cli, `Bouncing ${name}`, client.bounce(name));
  if (flags.json) return cli.printJson(result);
  cli.print(`${cli.style.green("Bounced")} ${cli.style.bold(name)} in ${formatDuration(result.totalMs)}`);
  const rows = (result.steps ?? []).map((step) => [step.name, formatDuration(step.ms)]);
  if (rows.length > 0) cli.print(renderTable(["STEP", "TIME"], rows));
}
