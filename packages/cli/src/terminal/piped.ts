import type { Readable, Writable } from "node:stream";
import type { ExecOptions, ExecSession, HobClient } from "@hob/client";
import type { Cli } from "../cli.ts";
import { onSignals, statusOfSignal } from "./signals.ts";

/**
 * Runs a command without a terminal: three separate streams, both ways as slow as the slower side.
 * @returns its exit status
 */
export async function runPiped(cli: Cli, client: HobClient, name: string, options: ExecOptions): Promise<number> {
  const session = await client.exec(name, options);
  const forced = Promise.withResolvers<number>();
  const stopListening = onSignals(
    (signal) => session.sendSignal(signal),
    (signal) => forced.resolve(statusOfSignal(signal)),
  );
  // What a local command would get: its reader has gone, so it must stop writing.
  cli.onBrokenPipe = () => session.sendSignal("SIGPIPE");
  if (options.stdin === true) sendInput(cli.stdin, session);
  try {
    return await Promise.race([outcome(cli, session), forced.promise]);
  } finally {
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
