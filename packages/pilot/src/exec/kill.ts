import { setTimeout as sleep } from "node:timers/promises";
import type { KillEvent } from "@hob/protocol";
import type { Session } from "./session.ts";
import { SIGNAL_NUMBERS, signalName } from "./signals.ts";

/** For a process to end after SIGKILL: only one that hangs in the kernel takes longer. */
const KILL_WAIT_MS = 5_000;

/** A client that has taken nothing for so long does not hold up a kill. */
const STALL_MS = 1_000;

export interface KillOptions {
  /** 1 to 64 */
  readonly signal: number;
  /** until SIGKILL; 0: the signal is delivered, and nothing is waited for */
  readonly timeoutMs: number;
  /** as it is told to the client */
  readonly timeoutText: string;
  /** the process id that is told: the one that its user sees */
  readonly pid: number;
}

/** Ends a session, and tells how it goes. It goes on when nobody listens any more. */
export async function killSession(session: Session, options: KillOptions, tell: (event: KillEvent) => void): Promise<void> {
  const { signal, timeoutMs, pid } = options;
  const name = signalName(signal);
  tell({ type: "signal", message: `Signaling ${name} to process group ${pid}`, signal: name, pid });
  if (timeoutMs === 0) {
    session.signal(signal);
    return tell({ type: "complete" });
  }
  session.process.endAll(signal);
  let exitCode = await within(session.done, timeoutMs);
  let isKilled = signal === SIGNAL_NUMBERS.SIGKILL;
  if (exitCode === undefined) {
    isKilled = true;
    tell({ type: "timeout", message: `Timeout after ${options.timeoutText}, sending SIGKILL` });
    session.process.endAll(SIGNAL_NUMBERS.SIGKILL);
    // Its last output may wait for a client that takes nothing.
    if (session.output.isFull) session.output.cutStalled(STALL_MS);
    exitCode = await within(session.done, KILL_WAIT_MS);
  }
  if (exitCode === undefined) tell({ type: "error", message: "Warning: process may not have terminated" });
  else tell(isKilled ? { type: "killed", message: "Process killed" } : { type: "exited", message: "Process exited" });
  tell({ type: "complete", ...(exitCode === undefined ? {} : { exit_code: exitCode }) });
}

async function within(done: Promise<number>, ms: number): Promise<number | undefined> {
  const aborter = new AbortController();
  try {
    return await Promise.race([done, sleep(ms, undefined, { signal: aborter.signal }).catch(() => undefined)]);
  } finally {
    aborter.abort();
  }
}
