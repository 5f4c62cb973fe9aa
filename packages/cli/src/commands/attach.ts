import type { HobClient } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Command } from "commander";
import { integerBetween } from "../arguments.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { type Register, withExample } from "../program.ts";
import { takeSpriteName } from "../sprite-argument.ts";

export interface AttachFlags extends GlobalFlags {
  sprite?: string;
  offset?: number;
  /** undefined: if it is a terminal */
  stdin?: boolean;
  /** false with --no-port-forward */
  portForward: boolean;
}

const USAGE = "hob attach NAME [ID]";

export const register: Register = (program, cli) => addAttach(program, cli);

/** `hob attach`, and `hob sessions attach`, which is the same. */
export function addAttach(parent: Command, cli: Cli): void {
  const command = parent
    .command("attach")
    .description("Come back to a session: its output so far, then what follows; Ctrl+\\ leaves it")
    .argument("[name]", "name of the sprite")
    .argument("[id]", "of the session; not needed if only one runs")
    .option("-s, --sprite <name>", "name of the sprite")
    .option("--offset <bytes>", "only the output after so many bytes", integerBetween(0, Number.MAX_SAFE_INTEGER))
    .option("--stdin", "send standard input to the session, though it is not a terminal")
    .option("--no-stdin", "only watch")
    .option("--no-port-forward", "on a terminal: do not make ports that are open inside reachable at the same local port");
  withExample(command, "hob attach web", "hob attach web 7");
  command.action((first: string | undefined, second: string | undefined, _flags: AttachFlags, self: Command) =>
    attach(
      cli,
      [first, second].filter((word) => word !== undefined),
      self.optsWithGlobals<AttachFlags>(),
    ),
  );
}

async function attach(cli: Cli, words: readonly string[], flags: AttachFlags): Promise<void> {
  // A number alone is a session of the folder's sprite, if the folder has one.
  const needed = /^\d+$/.test(words[0] ?? "") ? 1 : 0;
  const { name, rest } = takeSpriteName(words, flags.sprite, USAGE, needed);
  if (rest.length > 1) throw new HobError("usage", `attach: one session at a time`, { hint: USAGE });
  const [{ connect, comeBack }, { converseWithPorts, noteDetached, sizeOf }, { relay }] = await Promise.all([
    import("../terminal/connection.ts"),
    import("../terminal/interactive.ts"),
    import("../terminal/piped.ts"),
  ]);
  const connection = await connect(cli, flags);
  const id = rest[0] ?? (await onlySession(connection.client, name));
  const stdin = flags.stdin ?? cli.stdin.isTTY === true;
  const size = cli.stdout.isTTY ? sizeOf(cli.stdout) : undefined;
  const session = await connection.client.attach(name, id, {
    stdin,
    size,
    outputOffset: flags.offset,
    resume: comeBack(cli, connection),
  });
  const dropped = (session.info?.output_offset ?? 0) - (flags.offset ?? 0);
  if (flags.offset !== undefined && dropped > 0) cli.note(`hob: ${dropped} bytes of output are kept no more`);
  const { portForward } = flags;
  cli.exitStatus = session.info?.tty
    ? await converseWithPorts(cli, connection, name, session, {
        stdin,
        size: size ?? { cols: session.info.cols, rows: session.info.rows },
        portForward,
      })
    : await relay(cli, name, session, { stdin, onDetached: () => noteDetached(cli, name, session) });
}

/** @throws HobError `usage` unless exactly one runs */
async function onlySession(client: HobClient, name: string): Promise<string> {
  const sessions = await client.sessions(name);
  const [only] = sessions;
  if (only !== undefined && sessions.length === 1) return only.id;
  const what = sessions.length === 0 ? "no session runs" : `${sessions.length} sessions run (${sessions.map(({ id }) => id).join(", ")})`;
  throw new HobError("usage", `attach to ${name}: ${what}`, {
    hint: sessions.length === 0 ? `'hob exec --detach ${name} -- COMMAND' starts one` : USAGE,
  });
}
