import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { findSpriteFile, removeSpriteFile, SPRITE_FILE, writeSpriteFile } from "../sprite-file.ts";

interface UseFlags extends GlobalFlags {
  unset?: boolean;
  json?: boolean;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("use")
    .description(`Choose the sprite of this folder and those below it, for commands that name none (file ${SPRITE_FILE})`)
    .argument("[name]", "name of the sprite; without it: show which one is chosen")
    .option("--unset", "choose none any more")
    .option("--json", "print JSON");
  withExample(command, "hob use web && hob exec -- ls", "hob use --unset");
  command.action((name: string | undefined, _flags: UseFlags, self: Command) => use(cli, name, self.optsWithGlobals<UseFlags>()));
};

async function use(cli: Cli, name: string | undefined, flags: UseFlags): Promise<void> {
  const directory = process.cwd();
  if (flags.unset) return unset(cli, directory);
  if (name === undefined) return show(cli, directory, flags.json === true);
  // A name that is not there is a mistake better met now than by the next command.
  const sprite = await (await cli.client(flags)).get(name);
  const path = writeSpriteFile(directory, sprite.name);
  if (flags.json) cli.printJson({ sprite: sprite.name, path });
  else cli.print(`${cli.style.bold(sprite.name)} is the sprite of ${directory}`);
}

function unset(cli: Cli, directory: string): void {
  const found = findSpriteFile(directory);
  if (found === undefined) {
    cli.note("No sprite is chosen here.");
    return;
  }
  removeSpriteFile(found.path);
  cli.print(`Removed ${found.path}`);
}

function show(cli: Cli, directory: string, json: boolean): void {
  const found = findSpriteFile(directory);
  if (json) cli.printJson(found ?? null);
  else if (found === undefined) cli.note("No sprite is chosen here: 'hob use NAME' chooses one.");
  else cli.print(found.sprite);
}
