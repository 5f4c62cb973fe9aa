import type { Cli } from "../cli.ts";

/** Milliseconds between two looks at how far work is. */
const LOOK_INTERVAL_MS = 200;

/**
 * Shows that something goes on while `work` runs: a spinner on a terminal, one plain line elsewhere.
 * Nothing of it goes to standard output.
 * @param state how far it is, shown behind the text on a terminal
 */
export async function withProgress<T>(cli: Cli, text: string, work: Promise<T>, state?: () => string): Promise<T> {
  if (!cli.stderr.isTTY || cli.env.TERM === "dumb") {
    cli.note(`${text} ...`);
    return work;
  }
  // Its failure is seen by the await below, also when it comes while the spinner is being loaded.
  work.catch(() => {});
  const { default: ora } = await import("ora");
  // ora would else hide keys and swallow Ctrl+C of a terminal that is not its own.
  const spinner = ora({ text, stream: cli.stderr, discardStdin: false }).start();
  const look = () => {
    if (state !== undefined) spinner.text = `${text}: ${state()}`;
  };
  const looking = setInterval(look, LOOK_INTERVAL_MS);
  try {
    return await work;
  } finally {
    clearInterval(looking);
    spinner.stop();
  }
}
