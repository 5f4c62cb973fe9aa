import type { Readable, Writable } from "node:stream";
import type { ExecOptions, ExecSession } from "@hob/client";
import type { Cli } from "../cli.ts";
import { type Connection, comeBack, withWayBack } from "./connection.ts";
import { onSignals, statusOfSignal } from "./signals.ts";

/** A command lives on for as long as this process tries to come back to it. */
const MAX_RUN_AFTER_DISCONNECT = "60s";

/**
 * Runs a command without a terminal: three separate streams, both ways as slow as the slower side.
 * @returns its exit status
 */
export async function runPiped(
  cli: Cli,
  connection: Connection,
  name: string,
  options: Omit<ExecOptions, "tty" | "resume">,
): Promise<number> {
  const resume = comeBack(cli, connection);
  const session = await connection.client.exec(name, { ...options, maxRunAfterDisconnect: MAX_RUN_AFTER_DISCONNECT, resume });
  return relay(cli, name, session, { stdin: options.stdin === true });
}

export interface RelayOptions {
  /** whether standard input goes to the session */
  stdin: boolean;
  /** called when the person has asked to leave the session running, by the key for SIGQUIT; then the status is 0 */
  onDetached?: () => void;
}

/** Connects this process's streams with the session's until it ends. @returns its exit status */
export async function relay(cli: Cli, name: string, session: ExecSession, { stdin, onDetached }: RelayOptions): Promise<number> {
  const forced = Promise.withResolvers<number>();
  const stopListening = onSignals(
    (signal) => session.sendSignal(signal),
    (signal) => forced.resolve(statusOfSignal(signal)),
  );
  const onQuit = () => {
    onDetached?.();
    forced.resolve(0);
  };
  if (onDetached !== undefined) process.once("SIGQUIT", onQuit);
  // What a local command would get: its reader has gone, so it must stop writing.
  cli.onBrokenPipe = () => session.sendSignal("SIGPIPE");
  if (stdin) sendInput(cli.stdin, session);
  try {
    return await Promise.race([outcome(cli, session), forced.promise]);
  } catch (thrown) {
    throw withWayBack(thrown, name);
  } finally {
    process.off("SIGQUIT", onQuit);
    stopListening();
    session.close();
  }
}

async function outcome(cli: Cli, session: ExecSession): Promise<number> {
  const copied = Promise.all([copy(session.stdout, cli.stdout), copy(session.stderr, cli.stderr)]);
  const status = await session.exit;
  await copied;
  return status;
}

/** Copies all, waiting for a slow reader. The destination stays open: others write to it afterwards. */
export function copy(from: Readable, to: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    from.once("end", resolve);
    from.once("error", reject);
    // A reader that has gone is handled where all of standard output's errors are; standard error's has nobody to tell.
    to.once("error", () => resolve());
    from.pipe(to, { end: false });
  });
}

/** Standard input that cannot be read is an empty one: what the command makes of that is its own affair. */
function sendInput(input: Readable, session: ExecSession): void {
  input.once("error", () => session.stdin.end());
  input.pipe(session.stdin);
}
