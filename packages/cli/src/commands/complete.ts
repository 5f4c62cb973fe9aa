import type { GlobalFlags } from "../config.ts";
import { buildProgram, type Register } from "../program.ts";

/** Asked by the completion scripts; not for people. */
export const register: Register = (program, cli) => {
  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .action(async (words: string[]) => {
      const [{ complete }, { DaemonNames }] = await Promise.all([import("../completion/candidates.ts"), import("../completion/names.ts")]);
      const all = await buildProgram(cli, undefined);
      const { candidates, files } = await complete(all, words, new DaemonNames(cli, globalFlagsIn(words)));
      for (const { value, description } of candidates) cli.print(`${value}\t${description}`);
      cli.print(files ? ":files" : ":nofiles");
    });
};

/** Global flags in a line that is not finished yet, and that commander would therefore refuse. */
function globalFlagsIn(words: readonly string[]): GlobalFlags {
  const flags: GlobalFlags = {};
  for (const key of ["url", "token", "home"] as const) {
    const index = words.indexOf(`--${key}`);
    const value = index < 0 ? undefined : words[index + 1];
    if (value !== undefined && index + 1 < words.length - 1) flags[key] = value;
  }
  return flags;
}
