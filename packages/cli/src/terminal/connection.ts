import type { HobClient, ResumeOptions } from "@hob/client";
import { HobError } from "@hob/protocol/errors.ts";
import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";

/** A client, and how its sessions come back when their connection breaks. */
export interface Connection {
  readonly client: HobClient;
  /** asked again each time: a daemon that was restarted may be elsewhere */
  readonly locate: NonNullable<ResumeOptions["locate"]>;
}

export async function connect(cli: Cli, flags: GlobalFlags): Promise<Connection> {
  const client = await cli.client(flags);
  const [{ HobClient }, { resolveClientSettings }] = await Promise.all([import("@hob/client/client.ts"), import("../config.ts")]);
  return { client, locate: () => new HobClient(resolveClientSettings(flags, cli.env)).endpoint };
}

/** Tells the person of a connection that stays away, not of each that breaks. */
export function comeBack(cli: Cli, { locate }: Connection): ResumeOptions {
  // In raw mode a line feed only goes down.
  const note = (line: string) => cli.stderr.write(cli.stdin.isTTY && cli.stdin.isRaw ? `\r\n${line}\r\n` : `${line}\n`);
  return {
    locate,
    onWaiting: (reason) => note(`hob: the connection is gone, trying to come back (${reason.message})`),
    onBack: () => note("hob: connected again"),
    onGap: (bytes) => note(`hob: ${bytes} bytes of output were dropped meanwhile`),
  };
}

/** What a person types to come back. */
export const attachCommand = (name: string, sessionId: string): string => `hob attach ${name} ${sessionId}`;

/** A session that may go on without us: says how to come back to it. */
export function withWayBack(thrown: unknown, name: string): unknown {
  const id = thrown instanceof HobError && thrown.code === "connection_lost" ? thrown.details.session_id : undefined;
  if (!(thrown instanceof HobError) || typeof id !== "string") return thrown;
  const hint = `${thrown.hint ?? ""}; if the command goes on, '${attachCommand(name, id)}' comes back to it`;
  return new HobError(thrown.code, thrown.message, { hint, cause: thrown });
}
