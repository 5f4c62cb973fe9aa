import { HobError } from "@hob/protocol/errors.ts";
import type { UpdateSpriteRequest } from "@hob/protocol/sprites.ts";
import type { Command } from "commander";
import { collectText, durationSeconds } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface UpdateFlags extends GlobalFlags {
  sprite?: string;
  label?: string[];
  clearLabels?: boolean;
  idleTimeout?: number | "default";
  json?: boolean;
}

const USAGE = "hob update NAME --label LABEL";

export const register: Register = (program, cli) => {
  const command = program
    .command("update")
    .description("Change a sprite's labels and when it sleeps")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--label <label>", "label; may be repeated, and replaces all there are", collectText)
    .option("--clear-labels", "remove all labels")
    .option("--idle-timeout <time>", "time without use after which it sleeps; 0: never; default: as the daemon has it", idleTimeout)
    .option("--json", "print the sprite as JSON");
  withExample(command, "hob update web --label team-a --label staging", "hob update web --idle-timeout 10m");
  command.action((name: string | undefined, _flags: UpdateFlags, self: Command) => update(cli, name, self.optsWithGlobals<UpdateFlags>()));
};

const idleTimeout = (text: string): number | "default" => (text === "default" ? text : durationSeconds(text));

async function update(cli: Cli, operand: string | undefined, flags: UpdateFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, USAGE);
  const request: UpdateSpriteRequest = {
    ...(flags.clearLabels === undefined ? {} : { clear_labels: flags.clearLabels }),
    ...(flags.label === undefined ? {} : { labels: flags.label }),
    ...(flags.idleTimeout === undefined ? {} : { idle_timeout_seconds: flags.idleTimeout === "default" ? null : flags.idleTimeout }),
  };
  if (Object.keys(request).length === 0) throw new HobError("usage", `update ${name}: nothing to change`, { hint: USAGE });
  const sprite = await (await cli.client(flags)).update(name, request);
  if (flags.json) cli.printJson(sprite);
  else cli.print(`Updated ${cli.style.bold(sprite.name)}`);
}
