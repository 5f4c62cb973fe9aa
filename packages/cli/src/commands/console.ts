import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface ConsoleFlags extends GlobalFlags {
  sprite?: string;
  dir?: string;
  /** false with --no-port-forward */
  portForward: boolean;
}

const LOGIN_SHELL = ["bash", "-l"] as const;

export const register: Register = (program, cli) => {
  const command = program
    .command("console")
    .alias("c")
    .description("Open a shell in a sprite; Ctrl+\\ leaves it running")
    .argument("[name]", "name of the sprite")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--dir <dir>", "working directory inside the sprite")
    .option("--no-port-forward", "do not make ports that are opened inside reachable at the same local port");
  withExample(command, "hob console web");
  command.action((name: string | undefined, _flags: ConsoleFlags, self: Command) =>
    openConsole(cli, name, self.optsWithGlobals<ConsoleFlags>()),
  );
};

async function openConsole(cli: Cli, operand: string | undefined, flags: ConsoleFlags): Promise<void> {
  const { name } = takeSpriteName(operand === undefined ? [] : [operand], flags.sprite, "hob console NAME");
  if (!cli.stdin.isTTY || !cli.stdout.isTTY) {
    throw new HobError("conflict", "console: standard input and output are not a terminal", {
      hint: `for scripts there is 'hob exec ${name} -- COMMAND'`,
    });
  }
  const [{ connect }, { runOnTerminal }] = await Promise.all([import("../terminal/connection.ts"), import("../terminal/interactive.ts")]);
  cli.exitStatus = await runOnTerminal(cli, await connect(cli, flags), name, {
    command: LOGIN_SHELL,
    dir: flags.dir,
    stdin: true,
    portForward: flags.portForward,
  });
}
