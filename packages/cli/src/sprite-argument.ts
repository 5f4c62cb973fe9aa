import { HobError } from "@hob/protocol/errors.ts";

/**
 * The sprite that a command line names, with what is left of its operands. The official CLI takes the sprite by -s.
 * @throws HobError `usage`
 */
export function takeSpriteName(operands: readonly string[], flag: string | undefined, usage: string): { name: string; rest: string[] } {
  if (flag !== undefined) return { name: flag, rest: [...operands] };
  const [name, ...rest] = operands;
  if (name === undefined) throw new HobError("usage", "no sprite named", { hint: usage });
  return { name, rest };
}
