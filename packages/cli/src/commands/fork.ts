import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatDuration } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { splitVersion, takeNames } from "../sprite-argument.ts";

interface ForkFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("fork")
    .description("Make a new sprite from a sprite's present state, or from a checkpoint of it; its size does not matter")
    .argument("[name]", "name of the sprite, or NAME@ID for a checkpoint")
    .argument("[new-name]", "name of the new sprite")
    .option("-s, --sprite <name>", "name of the sprite, or NAME@ID")
    .option("--json", "print the new sprite as JSON");
  withExample(command, "hob fork web copy", "hob fork web@v3 old-web");
  command.action((_name: unknown, _new: unknown, _flags: ForkFlags, self: Command) =>
    fork(cli, self.args, self.optsWithGlobals<ForkFlags>()),
  );
};

async function fork(cli: Cli, operands: readonly string[], flags: ForkFlags): Promise<void> {
  const usage = "hob fork NAME[@ID] NEW";
  const { name: source, newName } = takeNames(operands, flags.sprite, usage);
  const { name, id } = splitVersion(source, usage);
  const storage = await (await cli.client(flags)).storage();
  const start = performance.now();
  const sprite = await withProgress(cli, `Forking ${source} as ${newName}`, storage.fork(name, newName, id));
  if (flags.json) return cli.printJson(sprite);
  cli.print(`${cli.style.green("Forked")} ${source} as ${cli.style.bold(sprite.name)} in ${formatDuration(performance.now() - start)}`);
  cli.print(sprite.url);
}
