import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { collectAssignment, collectText } from "../arguments.ts";
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
  file?: string[];
  tty?: boolean;
  detach?: boolean;
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
    .option("--file <source:destination>", "copy a file of this machine into the sprite first; may be repeated", collectText)
    .option("-t, --tty", "run on a terminal")
    .option("--detach", "leave the command running and print the id of its session")
    .option("--no-port-forward", "with -t: do not make ports that are opened inside reachable at the same local port")
    .option("--no-stdin", "give the command an empty standard input");
  withExample(
    command,
    "hob exec web -- ls -l /",
    "tar c . | hob exec web --dir /srv -- tar x",
    "hob exec --detach web -- make",
    "hob exec --file app.py:/tmp/app.py web -- python3 /tmp/app.py",
  );
  command.action((words: string[], _flags: ExecFlags, self: Command) => exec(cli, words, self.optsWithGlobals<ExecFlags>()));
};

async function exec(cli: Cli, words: readonly string[], flags: ExecFlags): Promise<void> {
  const { name, rest } = takeSpriteName(words, flags.sprite, USAGE);
  if (rest.length === 0) throw new HobError("usage", `no command for ${name}`, { hint: `${USAGE}, or 'hob console ${name}' for a shell` });
  if (flags.file !== undefined) {
    const { uploadBeforeExec } = await import("../files/exec-files.ts");
    await uploadBeforeExec(await (await cli.client(flags)).files(name), flags.file, flags.dir);
  }
  const options = { command: rest, dir: flags.dir, env: flags.env, stdin: flags.stdin };
  const { connect } = await import("../terminal/connection.ts");
  const connection = await connect(cli, flags);
  if (flags.detach) {
    const { runDetached } = await import("../terminal/detached.ts");
    await runDetached(cli, connection, name, options, flags.tty === true);
  } else if (flags.tty) {
    const { runOnTerminal } = await import("../terminal/interactive.ts");
    cli.exitStatus = await runOnTerminal(cli, connection, name, { ...options, portForward: flags.portForward });
  } else {
    const { runPiped } = await import("../terminal/piped.ts");
    cli.exitStatus = await runPiped(cli, connection, name, options);
  }
}
