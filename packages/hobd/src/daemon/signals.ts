import type { Daemon } from "./context.ts";

/** 128 + the signal's number, as shells count. */
const FORCED_EXIT_STATUS = { SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof FORCED_EXIT_STATUS;

/**
 * Milliseconds in which further signals are the first one again: a terminal or timeout(1) sends to the whole process
 * group, and a wrapper in that group passes on what it got.
 */
const SAME_SIGNAL_MS = 1_000;

/** The part of `process` that is needed, so that tests can send signals of their own. */
export interface SignalSource {
  on(signal: StopSignal, listener: () => void): unknown;
  off(signal: StopSignal, listener: () => void): unknown;
  exit(status: number): unknown;
}

/**
 * Resolves when a SIGTERM or SIGINT has come and the daemon has stopped. A second signal, more than a second later, ends
 * the process at once: what is left behind is cleaned up by the next start, as after a crash.
 * @param now milliseconds of a clock that only goes forward
 */
export function stopOnSignal(
  daemon: Pick<Daemon, "stop" | "log">,
  source: SignalSource = process,
  now: () => number = () => performance.now(),
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let firstAt: number | undefined;
  const listeners = (Object.keys(FORCED_EXIT_STATUS) as StopSignal[]).map((signal) => {
    const listener = () => {
      daemon.log.info({ signal }, "got a signal");
      if (firstAt === undefined) {
        firstAt = now();
        daemon.stop().then(resolve, reject);
      } else if (now() - firstAt > SAME_SIGNAL_MS) source.exit(FORCED_EXIT_STATUS[signal]);
    };
    source.on(signal, listener);
    return () => source.off(signal, listener);
  });
  return promise.finally(() => {
    for (const remove of listeners) remove();
  });
}

/** Reads the certificate anew at every SIGHUP, as daemons do. Without TLS the signal keeps its meaning: the terminal has gone. */
export function reloadOnSignal(
  daemon: Pick<Daemon, "reload" | "tlsUrl">,
  source: Pick<NodeJS.Process, "on" | "off"> = process,
): Disposable {
  const listener = () => daemon.reload();
  if (daemon.tlsUrl !== undefined) source.on("SIGHUP", listener);
  return { [Symbol.dispose]: () => void source.off("SIGHUP", listener) };
}
