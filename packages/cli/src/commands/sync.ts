import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatDuration } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface SyncFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("sync")
    .description("Wait until everything that a sprite has written is in the object store")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob sync web");
  command.action((_name: unknown, _flags: SyncFlags, self: Command) => sync(cli, self.args, self.optsWithGlobals<SyncFlags>()));
};

async function sync(cli: Cli, operands: readonly string[], flags: SyncFlags): Promise<void> {
  const { name } = takeSpriteName(operands, flags.sprite, "hob sync NAME");
  const storage = await (await cli.client(flags)).storage();
  const start = performance.now();
  const status = await withProgress(cli, `Bringing ${name} into the object store`, storage.sync(name));
  if (flags.json) return cli.printJson(status);
  const took = formatDuration(performance.now() - start);
  cli.print(`${cli.style.green("Durable:")} all that ${cli.style.bold(name)} had written is in the object store, after ${took}`);
}
