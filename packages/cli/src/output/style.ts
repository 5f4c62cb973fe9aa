import type { Environment } from "../config.ts";

const CODES = { bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], cyan: [36, 39] } as const;

export type Style = Readonly<Record<keyof typeof CODES, (text: string) => string>>;

/** Colours only where a person looks: a terminal, unless NO_COLOR is set to anything (no-color.org) or the terminal is dumb. */
export function styleFor(stream: { isTTY?: boolean }, env: Environment): Style {
  const coloured = stream.isTTY === true && (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
  const entries = Object.entries(CODES).map(([name, [on, off]]) => [
    name,
    coloured ? (text: string) => `\x1b[${on}m${text}\x1b[${off}m` : (text: string) => text,
  ]);
  return Object.fromEntries(entries) as Style;
}
