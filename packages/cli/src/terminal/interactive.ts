import { isDeepStrictEqual } from "node:util";
import type { ExecOptions, ExecSession, HobClient, TtySize } from "@hob/client";
import type { Cli } from "../cli.ts";
import type { Environment } from "../config.ts";
import { copy } from "./piped.ts";
import { PortForwarder } from "./port-forward.ts";
import { RawMode } from "./raw-mode.ts";
import { type ForwardedSignal, onSignals, statusOfSignal } from "./signals.ts";

/** How the terminal draws and which characters it knows: programs on the other side must know it too. */
const TERMINAL_VARIABLES = ["TERM", "COLORTERM", "LANG", "LC_ALL"] as const;

const FALLBACK_SIZE: TtySize = { cols: 80, rows: 24 };

/** Time the shell gets to end by itself when this process is told to end. */
const HANGUP_GRACE_MS = 2_000;

export interface TerminalOptions extends Omit<ExecOptions, "tty"> {
  /** whether ports that are opened inside are made reachable at the same local port */
  portForward?: boolean;
}

/**
 * Runs a command on a terminal. If this process has one it becomes raw, so that every key goes to the command.
 * @returns its exit status
 */
export async function runOnTerminal(cli: Cli, client: HobClient, name: string, options: TerminalOptions): Promise<number> {
  const env = { ...terminalVariables(cli.env), ...options.env };
  const tty = sizeOf(cli.stdout);
  const { portForward, ...execOptions } = options;
  // Before the command: what it opens is new then.
  using forwarder = portForward ? new PortForwarder(cli, client, name) : undefined;
  const session = await client.exec(name, { ...execOptions, env, tty });
  forwarder?.watchScreen(session.stdout);
  const rawMode = options.stdin === true && cli.stdin.isTTY ? new RawMode(cli.stdin, cli.stdout) : undefined;
  const onResize = (): void => session.resize(sizeOf(cli.stdout));
  const told = Promise.withResolvers<number>();
  const stopListening = onSignals(
    (signal) => deliver(session, signal, rawMode !== undefined, told.resolve),
    (signal) => told.resolve(statusOfSignal(signal)),
  );
  cli.onBrokenPipe = () => session.sendSignal("SIGHUP");
  cli.stdout.on("resize", onResize);
  // While the sprite woke up, nobody listened.
  if (!isDeepStrictEqual(tty, sizeOf(cli.stdout))) onResize();
  let clean = false;
  try {
    rawMode?.enter();
    if (options.stdin === true) sendKeys(cli, session);
    const status = await Promise.race([outcome(cli, session), told.promise]);
    clean = true;
    return status;
  } finally {
    rawMode?.leave(!clean);
    cli.stdout.off("resize", onResize);
    stopListening();
    session.close();
  }
}

/**
 * With raw keys, Ctrl+C is a key, and a signal means that this process is to end, or that its terminal has gone: the
 * shell is told so as a closing terminal tells it, and gets a moment. Otherwise the command is the one who is meant.
 */
function deliver(session: ExecSession, signal: ForwardedSignal, isRaw: boolean, end: (status: number) => void): void {
  session.sendSignal(isRaw ? "SIGHUP" : signal);
  if (isRaw) {
    const status = statusOfSignal(signal);
    void session.exit.then(
      () => end(status),
      () => end(status),
    );
    setTimeout(() => end(status), HANGUP_GRACE_MS);
  }
}

async function outcome(cli: Cli, session: ExecSession): Promise<number> {
  session.stderr.resume();
  const copied = copy(session.stdout, cli.stdout);
  const status = await session.exit;
  await copied;
  return status;
}

function sendKeys(cli: Cli, session: ExecSession): void {
  cli.stdin.once("error", () => session.stdin.end());
  cli.stdin.pipe(session.stdin);
}

function terminalVariables(env: Environment): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of TERMINAL_VARIABLES) if (env[name]) found[name] = env[name];
  return found;
}

/** What is no terminal has no size, and one that does not know its size says 0 by 0. */
function sizeOf(output: { columns?: number; rows?: number }): TtySize {
  return output.columns && output.rows ? { cols: output.columns, rows: output.rows } : FALLBACK_SIZE;
}
