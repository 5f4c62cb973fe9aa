import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { reportFailure } from "../output/failure.ts";
import { withProgress } from "../output/progress.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface DestroyFlags extends GlobalFlags {
  force?: boolean;
  sprite?: string;
}

export const register: Register = (program, cli) => {
  const command = program
    .command("destroy")
    .description("Remove sprites and all they hold, for good")
    .argument("[names...]", "names of the sprites")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("-f, --force", "do not ask");
  withExample(command, "hob destroy web --force");
  command.action((names: string[], _flags: DestroyFlags, self: Command) => destroy(cli, names, self.optsWithGlobals<DestroyFlags>()));
};

async function destroy(cli: Cli, operands: readonly string[], flags: DestroyFlags): Promise<void> {
  const { name, rest } = takeSpriteName(operands, flags.sprite, "hob destroy NAME");
  const names = [...new Set([name, ...rest])];
  const client = await cli.client(flags);
  if (flags.force !== true) {
    await confirm(cli, names);
  }
  for (const each of names) {
    try {
      await withProgress(cli, `Destroying ${each}`, client.delete(each));
      cli.print(`Destroyed ${each}`);
    } catch (thrown) {
      // The others are still to be destroyed: each failure is said where it happens.
      cli.exitStatus = reportFailure(cli, thrown);
    }
  }
}

/** @throws HobError `conflict` when it is not confirmed, or nobody is there to ask */
async function confirm(cli: Cli, names: readonly string[]): Promise<void> {
  const what = names.join(", ");
  if (!cli.stdin.isTTY || !cli.stderr.isTTY) {
    throw new HobError("conflict", `destroy ${what}: nobody is here to confirm it`, { hint: "--force destroys without asking" });
  }
  const answer = await ask(cli, `Destroy ${cli.noteStyle.bold(what)} and all that ${names.length > 1 ? "they hold" : "it holds"}? [y/N] `);
  if (!/^y(es)?$/i.test(answer.trim())) throw new HobError("conflict", `destroy ${what}: not confirmed, nothing was destroyed`);
}

/** The line that the person types; empty at the end of input. Ctrl+C ends the process as it does anywhere else. */
async function ask(cli: Cli, question: string): Promise<string> {
  const { createInterface } = await import("node:readline");
  const reader = createInterface({ input: cli.stdin, output: cli.stderr, terminal: false });
  cli.stderr.write(question);
  return new Promise((resolve) => {
    reader.once("line", (line) => {
      resolve(line);
      reader.close();
    });
    reader.once("close", () => resolve(""));
  });
}
