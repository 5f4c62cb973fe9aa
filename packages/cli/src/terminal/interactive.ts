import { isDeepStrictEqual } from "node:util";
import type { ExecOptions, ExecSession, TtySize } from "@hob/client";
import type { Cli } from "../cli.ts";
import type { Environment } from "../config.ts";
import { attachCommand, type Connection, comeBack, withWayBack } from "./connection.ts";
import { DetachKey } from "./detach-key.ts";
import { copy } from "./piped.ts";
import { PortForwarder } from "./port-forward.ts";
import { RawMode } from "./raw-mode.ts";
import { type ForwardedSignal, onSignals, statusOfSignal } from "./signals.ts";

/** How the terminal draws and which characters it knows: programs on the other side must know it too. */
const TERMINAL_VARIABLES = ["TERM", "COLORTERM", "LANG", "LC_ALL"] as const;

const FALLBACK_SIZE: TtySize = { cols: 80, rows: 24 };

/** Time the shell gets to end by itself when this process is told to end. */
const HANGUP_GRACE_MS = 2_000;

export interface TerminalOptions extends Omit<ExecOptions, "tty" | "resume"> {
  /** whether ports that are opened inside are made reachable at the same local port */
  portForward?: boolean;
}

/**
 * Runs a command on a terminal. If this process has one it becomes raw, so that every key goes to the command.
 * @returns its exit status, or 0 when the person has left it running
 */
export async function runOnTerminal(cli: Cli, connection: Connection, name: string, options: TerminalOptions): Promise<number> {
  const env = { ...terminalVariables(cli.env), ...options.env };
  const tty = sizeOf(cli.stdout);
  const resume = comeBack(cli, connection);
  const { portForward, ...execOptions } = options;
  // Before the command: what it opens is new then.
  using forwarder = portForward ? new PortForwarder(cli, connection.client, name) : undefined;
  const session = await connection.client.exec(name, { ...execOptions, env, tty, resume });
  forwarder?.watchScreen(session.stdout);
  return await converse(cli, name, session, { stdin: options.stdin === true, size: tty });
}

export interface Conversation {
  /** whether the person's keys go to the session */
  stdin: boolean;
  /** that the session's terminal has */
  size: TtySize;
}

/**
 * As `converse`, for a session that was there before: ports that it has opened may be open already, so all that are open
 * are made reachable.
 */
export async function converseWithPorts(
  cli: Cli,
  connection: Connection,
  name: string,
  session: ExecSession,
  { portForward, ...conversation }: Conversation & { portForward: boolean },
): Promise<number> {
  using forwarder = portForward ? new PortForwarder(cli, connection.client, name, { existing: true }) : undefined;
  forwarder?.watchScreen(session.stdout);
  return await converse(cli, name, session, conversation);
}

/** Connects this process's terminal with the session's until either ends. @returns as `runOnTerminal` */
export async function converse(cli: Cli, name: string, session: ExecSession, { stdin, size }: Conversation): Promise<number> {
  const rawMode = stdin && cli.stdin.isTTY ? new RawMode(cli.stdin, cli.stdout) : undefined;
  const onResize = (): void => session.resize(sizeOf(cli.stdout));
  const told = Promise.withResolvers<number>();
  const detached = Promise.withResolvers<"detached">();
  const stopListening = onSignals(
    (signal) => deliver(session, signal, rawMode !== undefined, told.resolve),
    (signal) => told.resolve(statusOfSignal(signal)),
  );
  cli.onBrokenPipe = () => session.sendSignal("SIGHUP");
  cli.stdout.on("resize", onResize);
  // While the sprite woke up, nobody listened.
  if (!isDeepStrictEqual(size, sizeOf(cli.stdout))) onResize();
  let clean = false;
  let left = false;
  try {
    rawMode?.enter();
    if (stdin) sendKeys(cli, session, rawMode === undefined ? undefined : () => detached.resolve("detached"));
    const status = await Promise.race([outcome(cli, session), told.promise, detached.promise]);
    left = status === "detached";
    clean = !left;
    return status === "detached" ? 0 : status;
  } catch (thrown) {
    throw withWayBack(thrown, name);
  } finally {
    rawMode?.leave(!clean);
    if (left) noteDetached(cli, name, session);
    cli.stdout.off("resize", onResize);
    stopListening();
    session.close();
  }
}

export function noteDetached(cli: Cli, name: string, session: ExecSession): void {
  const id = session.info?.session_id;
  cli.note(id === undefined ? "Detached" : `Detached from session ${id}; '${attachCommand(name, id)}' comes back to it`);
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

/** @param onDetach undefined: no key leaves the session, as input does not come from a person */
function sendKeys(cli: Cli, session: ExecSession, onDetach: (() => void) | undefined): void {
  cli.stdin.once("error", () => session.stdin.end());
  if (onDetach === undefined) cli.stdin.pipe(session.stdin);
  else cli.stdin.pipe(new DetachKey(onDetach)).pipe(session.stdin);
}

function terminalVariables(env: Environment): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of TERMINAL_VARIABLES) if (env[name]) found[name] = env[name];
  return found;
}

/** What is no terminal has no size, and one that does not know its size says 0 by 0. */
export function sizeOf(output: { columns?: number; rows?: number }): TtySize {
  return output.columns && output.rows ? { cols: output.columns, rows: output.rows } : FALLBACK_SIZE;
}
