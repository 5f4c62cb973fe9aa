import { HobError } from "@hob/protocol/errors.ts";
import type { Command, CommanderError } from "commander";

/** Names of the command that the words begin with, such as `services`, `create`; empty if they name none. */
export function namesOfCommand(program: Command, words: readonly string[]): string[] {
  const child = program.commands.find((command) => command.name() === words[0] || command.aliases().includes(words[0] ?? ""));
  return child === undefined ? [] : [child.name(), ...namesOfCommand(child, words.slice(1))];
}

/** What commander says of a command line that it does not understand, as errors of Hob are. @param path of the command */
export function usageError(error: CommanderError, path: readonly string[]): HobError {
  const choice = /^error: command-argument value '(.*)' is invalid for argument '(.*)'\. Allowed choices are (.*)\.$/s.exec(error.message);
  const message = choice === null ? error.message.replace(/^error: /, "") : `${choice[2]} '${choice[1]}' is not one of ${choice[3]}`;
  return new HobError("usage", message, { hint: `'${["hob", ...path, "--help"].join(" ")}' shows what there is`, cause: error });
}

/**
 * Commander answers `help nosuch` with the help of all.
 * @param words from the command on
 * @throws HobError `usage`
 */
export function refuseUnknownHelp(program: Command, words: readonly string[]): void {
  const [first, asked] = words;
  if (first !== "help" || asked === undefined || asked.startsWith("-") || namesOfCommand(program, [asked]).length > 0) return;
  if (asked === "help") return;
  throw new HobError("usage", `unknown command '${asked}'`, { hint: "'hob --help' shows what there is" });
}
