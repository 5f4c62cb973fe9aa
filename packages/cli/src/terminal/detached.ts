import type { ExecOptions } from "@hob/client";
import type { Cli } from "../cli.ts";
import { attachCommand, type Connection } from "./connection.ts";
import { sizeOf } from "./interactive.ts";

/** Starts a command that needs no client, and prints the id of its session. Nobody sends it input. */
export async function runDetached(
  cli: Cli,
  { client }: Connection,
  name: string,
  options: Omit<ExecOptions, "tty" | "resume">,
  isTty: boolean,
): Promise<void> {
  const session = await client.exec(name, {
    ...options,
    stdin: false,
    maxRunAfterDisconnect: "0",
    tty: isTty ? sizeOf(cli.stdout) : undefined,
  });
  session.stdout.resume();
  session.stderr.resume();
  const { session_id: id } = await session.ready;
  session.close();
  cli.print(id);
  cli.note(`'${attachCommand(name, id)}' shows what it does`);
}
