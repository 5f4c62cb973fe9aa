import type { Cli } from "../cli.ts";
import { type ForwardedSignal, onSignals } from "../terminal/signals.ts";

/** Milliseconds between two looks at how far work is. */
const LOOK_INTERVAL_MS = 200;

export interface ProgressOptions {
  /** how far it is, shown behind the text on a terminal; empty: nothing to say */
  state?: () => string;
  /** one line on a terminal too: another program may have that, which standard output goes to */
  plain?: boolean;
  /** said when a signal ends the command, Ctrl+C for one: what becomes of the work, which is not done here */
  interrupted?: string;
}

/**
 * Shows that something goes on while `work` runs: a spinner on a terminal, one plain line elsewhere.
 * Nothing of it goes to standard output.
 */
export async function withProgress<T>(cli: Cli, text: string, work: Promise<T>, options: ProgressOptions = {}): Promise<T> {
  // Its failure is seen by the await below, also when it comes while the spinner is being loaded.
  work.catch(() => {});
  let spinner = { stop: () => {} };
  const end = (signal: ForwardedSignal): void => {
    stopListening();
    spinner.stop();
    if (options.interrupted !== undefined) cli.note(options.interrupted);
    // As it would have ended without this: whoever started it is to see why.
    process.kill(process.pid, signal);
  };
  const stopListening = onSignals(end, end);
  try {
    if (options.plain || !cli.stderr.isTTY || cli.env.TERM === "dumb") {
      cli.note(`${text} ...`);
      return await work;
    }
    const shown = await startSpinner(cli, text, options.state);
    spinner = shown;
    return await work;
  } finally {
    stopListening();
    spinner.stop();
  }
}

async function startSpinner(cli: Cli, text: string, state: () => string = () => ""): Promise<{ stop: () => void }> {
  const { default: ora } = await import("ora");
  // ora would else hide keys and swallow Ctrl+C of a terminal that is not its own.
  const spinner = ora({ text, stream: cli.stderr, discardStdin: false }).start();
  const look = () => {
    const far = state();
    spinner.text = far === "" ? text : `${text}: ${far}`;
  };
  const looking = setInterval(look, LOOK_INTERVAL_MS);
  return {
    stop: () => {
      clearInterval(looking);
      spinner.stop();
    },
  };
}
