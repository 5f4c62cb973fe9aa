import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface RestartFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("restart")
    .description("Shut a sprite's machine down and boot it from its disk: files stay, processes do not")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob restart web");
  command.action((name: string | undefined, _flags: RestartFlags, self: Command) =>
    restart(cli, name, self.optsWithGlobals<RestartFlags>()),
  );
};

async function restart(cli: Cli, operand: string | undefined, flags: RestartFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob restart NAME");
  const client = await cli.client(flags);
  const answer = await withProgress(cli, `Restarting ${name}`, client.restart(name));
  if (flags.json) cli.printJson(answer);
  else cli.print(`${cli.style.bold(answer.sprite_name)} ${answer.message}`);
}
