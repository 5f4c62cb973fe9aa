import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface UpgradeFlags extends GlobalFlags {
  sprite?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("upgrade")
    .description("Move a sprite to the newest images; one that runs on older ones is restarted")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite");
  withExample(command, "hob upgrade web");
  command.action((name: string | undefined, _flags: UpgradeFlags, self: Command) =>
    upgrade(cli, name, self.optsWithGlobals<UpgradeFlags>()),
  );
};

async function upgrade(cli: Cli, operand: string | undefined, flags: UpgradeFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob upgrade NAME");
  const client = await cli.client(flags);
  await withProgress(cli, `Upgrading ${name}`, client.upgrade(name));
  cli.print(`${cli.style.bold(name)} is on the newest images`);
}
