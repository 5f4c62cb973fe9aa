import type { Cli } from "../cli.ts";

/**
 * Shows that something goes on while `work` runs: a spinner on a terminal, one plain line elsewhere.
 * Nothing of it goes to standard output.
 */
export async function withProgress<T>(cli: Cli, text: string, work: Promise<T>): Promise<T> {
  if (!cli.stderr.isTTY || cli.env.TERM === "dumb") {
    cli.note(`${text} ...`);
    return work;
  }
  // Its failure is seen by the await below, also when it comes while the spinner is being loaded.
  work.catch(() => {});
  const { default: ora } = await import("ora");
  // ora would else hide keys and swallow Ctrl+C of a terminal that is not its own.
  const spinner = ora({ text, stream: cli.stderr, discardStdin: false }).start();
  try {
    return await work;
  } finally {
    spinner.stop();
  }
}
