import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatDuration } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";
import { goesOn } from "./restore.ts";

interface UndoFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("undo")
    .description("Put a sprite's files back to the state before its last restore; again redoes it")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--json", "print JSON");
  withExample(command, "hob undo web");
  command.action((_name: unknown, _flags: UndoFlags, self: Command) => undo(cli, self.args, self.optsWithGlobals<UndoFlags>()));
};

async function undo(cli: Cli, operands: readonly string[], flags: UndoFlags): Promise<void> {
  const { name } = takeSpriteName(operands, flags.sprite, "hob undo NAME");
  const checkpoints = await (await cli.client(flags)).checkpoints(name);
  const start = performance.now();
  const { id, undoId } = await withProgress(cli, `Undoing the last restore of ${name}`, checkpoints.undo(), {
    interrupted: goesOn(name),
  });
  const elapsedMs = performance.now() - start;
  if (flags.json) return cli.printJson({ id, undoId, elapsedMs: Math.round(elapsedMs) });
  cli.print(`${cli.style.green("Restored")} ${cli.style.bold(name)} to ${id ?? "?"} in ${formatDuration(elapsedMs)}`);
}
