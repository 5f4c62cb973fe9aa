import { type ParseArgsConfig, parseArgs } from "node:util";

/** The arguments of a script. `--help` prints the usage and ends with 0; a wrong flag is named, and ends with 2. */
export function scriptArguments<T extends ParseArgsConfig>(usage: string, config: T): ReturnType<typeof parseArgs<T>> {
  if (process.argv.slice(2).includes("--help")) {
    console.log(`usage: ${usage}`);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    console.error(`${(error as Error).message}\nusage: ${usage}`);
    process.exit(2);
  }
}

/** A count given to a flag. @throws never: ends with 2 when it is no whole number of 0 or more */
export function countArgument(flag: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  console.error(`--${flag} ${text}: a whole number from 0 on is needed`);
  process.exit(2);
}
