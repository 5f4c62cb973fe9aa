import type { SpritePoliciesClient } from "@hob/client/policies.ts";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

export interface PolicyFlags extends GlobalFlags {
  json?: boolean;
  sprite?: string;
}

/** What an action gets: the sprite, its policies, and the flags. */
export interface Invocation<Flags> {
  name: string;
  policies: SpritePoliciesClient;
  flags: Flags;
}

/** Adds `hob policy KIND WORD [name]`; options are added by the caller to what is returned. */
export function addSubcommand<Flags extends PolicyFlags>(
  group: Command,
  cli: Cli,
  { word, description, example }: { word: string; description: string; example: string },
  action: (invocation: Invocation<Flags>) => Promise<void>,
): Command {
  const command = group
    .command(word)
    .description(description)
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite");
  withExample(command, example);
  return command.action(async (operand: string | undefined, _flags: Flags, self: Command) => {
    const flags = self.optsWithGlobals<Flags>();
    const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, `hob policy ${group.name()} ${word} NAME`);
    await action({ name, policies: (await cli.client(flags)).policies(name), flags });
  });
}

/** For options that may be given more than once. */
export const repeated = (value: string, earlier: string[] = []): string[] => [...earlier, value];

/** @throws HobError `usage` */
export function parseNumber(text: string, flag: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new HobError("usage", `${flag}: '${text}' is not a number`);
  return value;
}
