import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface SleepFlags extends GlobalFlags {
  sprite?: string;
  force?: boolean;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("sleep")
    .description("Put a sprite to sleep now; the next request wakes it where it was")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("-f, --force", "also when something holds it awake: open connections are cut")
    .option("--json", "print JSON");
  withExample(command, "hob sleep web");
  command.action((name: string | undefined, _flags: SleepFlags, self: Command) => sleep(cli, name, self.optsWithGlobals<SleepFlags>()));
};

async function sleep(cli: Cli, operand: string | undefined, flags: SleepFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob sleep NAME");
  const answer = await (await cli.client(flags)).sleep(name, flags.force === true);
  if (flags.json) cli.printJson(answer);
  else cli.print(`${cli.style.bold(answer.sprite_name)} is ${answer.status}`);
}
