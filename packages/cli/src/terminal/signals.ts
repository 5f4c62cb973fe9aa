import { constants } from "node:os";

/** Signals that a person or a supervisor sends to end or to poke a command, signal(7). */
export type ForwardedSignal = "SIGINT" | "SIGTERM" | "SIGHUP";

export const FORWARDED_SIGNALS: readonly ForwardedSignal[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** A command that ignores this many signals is left to itself: the person wants their shell back. */
const SIGNALS_UNTIL_FORCED = 3;

/** Exit status of a process that died by a signal, as shells report it. */
export const statusOfSignal = (signal: ForwardedSignal): number => 128 + constants.signals[signal];

/**
 * Hands every signal to `deliver`, and the third one to `force`.
 * @returns stops listening
 */
export function onSignals(deliver: (signal: ForwardedSignal) => void, force: (signal: ForwardedSignal) => void): () => void {
  let count = 0;
  const handle = (signal: NodeJS.Signals): void => {
    count++;
    if (count >= SIGNALS_UNTIL_FORCED) force(signal as ForwardedSignal);
    else deliver(signal as ForwardedSignal);
  };
  for (const signal of FORWARDED_SIGNALS) process.on(signal, handle);
  return () => {
    for (const signal of FORWARDED_SIGNALS) process.off(signal, handle);
  };
}
