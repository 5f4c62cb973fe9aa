import type { Cli } from "../cli.ts";
import type { GlobalFlags } from "../config.ts";
import { buildProgram, type Register } from "../program.ts";

/** A person who has pressed Tab waits: without an answer by then there are no names. */
const NAMES_TIMEOUT_MS = 1_000;
const NAMES_MAX = 500;

/** Asked by the completion scripts; not for people. */
export const register: Register = (program, cli) => {
  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .action(async (words: string[]) => {
      const { complete } = await import("../completion/candidates.ts");
      const all = await buildProgram(cli, undefined);
      const { candidates, files } = await complete(all, words, () => spriteNames(cli, globalFlagsIn(words)));
      for (const { value, description } of candidates) cli.print(`${value}\t${description}`);
      cli.print(files ? ":files" : ":nofiles");
    });
};

/** No daemon, no token, no answer: then there are no names to offer, and nothing to say in the middle of a line. */
async function spriteNames(cli: Cli, flags: GlobalFlags): Promise<string[]> {
  try {
    const client = await cli.client(flags);
    const page = await client.listPage({ pageSize: NAMES_MAX, timeoutMs: NAMES_TIMEOUT_MS });
    return page.sprites.map((sprite) => sprite.name);
  } catch {
    return [];
  }
}

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
