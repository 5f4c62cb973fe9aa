import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatBytes } from "../output/format.ts";
import { pipeOut } from "../output/pipe-out.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface ExportFlags extends GlobalFlags {
  sprite?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("export")
    .description("Write a sprite with all its checkpoints to standard output, as one file")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite");
  withExample(command, "hob export web > web.hob", "hob export web | ssh other hob import - web");
  command.action((_name: unknown, _flags: ExportFlags, self: Command) => exportSprite(cli, self.args, self.optsWithGlobals<ExportFlags>()));
};

async function exportSprite(cli: Cli, operands: readonly string[], flags: ExportFlags): Promise<void> {
  const { name } = takeSpriteName(operands, flags.sprite, "hob export NAME > FILE");
  if (cli.stdout.isTTY) {
    throw new HobError("usage", "export: standard output is a terminal, and this is no text", { hint: `hob export ${name} > ${name}.hob` });
  }
  const storage = await (await cli.client(flags)).storage();
  let bytes = 0;
  const count = (more: number) => {
    bytes += more;
  };
  const work = async () => pipeOut(cli, await storage.export(name), `export ${name}`, count);
  await withProgress(cli, `Exporting ${name}`, work(), { state: () => formatBytes(bytes) });
  cli.note(`Exported ${name}: ${formatBytes(bytes)}`);
}
