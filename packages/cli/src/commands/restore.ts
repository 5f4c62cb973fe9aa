import type { SpriteCheckpoints } from "@hob/client/checkpoints.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { formatBytes, formatDuration, printable } from "../output/format.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeCheckpoint } from "../sprite-argument.ts";

interface RestoreFlags extends GlobalFlags {
  sprite?: string;
  json?: boolean;
  path?: string;
}

export const register: Register = (program, cli) => addRestore(program, cli, "hob restore web v3");

/** `hob restore`, and `hob checkpoint restore`. */
export function addRestore(parent: Command, cli: Cli, example: string): void {
  const command = parent
    .command("restore")
    .description("Put a sprite's files back to a checkpoint; its sessions end, and the present state is kept")
    .argument("[name]", "name of the sprite")
    .argument("[id]", "id of the checkpoint, such as v3")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--path <path>", "put back only this, as an absolute path; sessions go on")
    .option("--json", "print JSON");
  withExample(command, example, `${example} --path /etc/nginx`);
  command.action((_name: unknown, _id: unknown, _flags: RestoreFlags, self: Command) =>
    restore(cli, self.args, self.optsWithGlobals<RestoreFlags>()),
  );
}

async function restore(cli: Cli, operands: readonly string[], flags: RestoreFlags): Promise<void> {
  const { name, id } = takeCheckpoint(operands, flags.sprite, "hob restore NAME ID");
  const checkpoints = await (await cli.client(flags)).checkpoints(name);
  if (flags.path !== undefined) return restorePath(cli, checkpoints, { name, id, path: flags.path, json: flags.json === true });
  const start = performance.now();
  const { undoId } = await withProgress(cli, `Restoring ${name} to ${id}`, checkpoints.restore(id), { interrupted: goesOn(name) });
  const elapsedMs = performance.now() - start;
  if (flags.json) return cli.printJson({ id, undoId, elapsedMs: Math.round(elapsedMs) });
  cli.print(`${cli.style.green("Restored")} ${cli.style.bold(name)} to ${id} in ${formatDuration(elapsedMs)}`);
  if (undoId !== undefined) cli.note(`The state before is kept as ${undoId}: 'hob undo ${name}' puts it back.`);
}

async function restorePath(
  cli: Cli,
  checkpoints: SpriteCheckpoints,
  { name, id, path, json }: { name: string; id: string; path: string; json: boolean },
): Promise<void> {
  const look = `'hob checkpoint diff ${name} ${id} --path ${path}' finds no differences when it is done`;
  const interrupted = `The restore goes on in ${name} if it had begun: ${look}.`;
  const done = await withProgress(cli, `Restoring ${path} of ${name} to ${id}`, checkpoints.restorePath(id, path), { interrupted });
  if (json) return cli.printJson(done);
  const what = `${done.count} ${done.count === 1 ? "entry" : "entries"}, ${formatBytes(done.bytes)}`;
  cli.print(`${cli.style.green("Restored")} ${done.path} of ${cli.style.bold(name)} to ${id}: ${what}`);
  // A sprite that was not upgraded yet does not say.
  const leftOut = done.leftOut ?? [];
  if (leftOut.length > 0) cli.note(`Left out, since nobody can make devices inside: ${leftOut.map(printable).join(", ")}`);
}

/** What becomes of a restore whose command is ended. */
export const goesOn = (name: string): string =>
  `The restore goes on in ${name} if it had begun: 'hob checkpoint list ${name}' shows in the line of Current what it comes from.`;
