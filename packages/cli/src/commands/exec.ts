import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { collectAssignment } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

interface ExecFlags extends GlobalFlags {
  sprite?: string;
  dir?: string;
  /** false with --no-port-forward */
  portForward: boolean;
  env?: Record<string, string>;
  tty?: boolean;
  /** false with --no-stdin */
  stdin: boolean;
}

const USAGE = "hob exec NAME -- COMMAND [ARGUMENTS]";

export const register: Register = (program, cli) => {
  const command = program
    .command("exec")
    .alias("x")
    .description("Run a command in a sprite; its exit status becomes that of hob")
    .usage("[options] NAME -- COMMAND [ARGUMENTS]")
    .argument("[words...]", "sprite, then the command and its arguments")
    .option("-s, --sprite <name>", "name of the sprite; then all operands are the command")
    .option("--dir <dir>", "working directory inside the sprite")
    .option("--env <name=value>", "environment variable; may be repeated", collectAssignment)
    .option("-t, --tty", "run on a terminal")
    .option("--no-port-forward", "with -t: do not make ports that are opened inside reachable at the same local port")
    .option("--no-stdin", "give the command an empty standard input");
  withExample(command, "hob exec web -- ls -l /", "tar c . | hob exec web --dir /srv -- tar x");
  command.action((words: string[], _flags: ExecFlags, self: Command) => exec(cli, words, self.optsWithGlobals<ExecFlags>()));
};

async function exec(cli: Cli, words: readonly string[], flags: ExecFlags): Promise<void> {
  const { name, rest } = takeSpriteName(words, flags.sprite, USAGE);
  if (rest.length === 0) throw new HobError("usage", `no command for ${name}`, { hint: `${USAGE}, or 'hob console ${name}' for a shell` });
  const client = await cli.client(flags);
  if (flags.tty) {
    const { runOnTerminal } = await import("../terminal/interactive.ts");
    const { dir, env, stdin, portForward } = flags;
    cli.exitStatus = await runOnTerminal(cli, client, name, { command: rest, dir, env, stdin, portForward });
  } else {
    const { runPiped } = await import("../terminal/piped.ts");
    cli.exitStatus = await runPiped(cli, client, name, { command: rest, dir: flags.dir, env: flags.env, stdin: flags.stdin });
  }
}
