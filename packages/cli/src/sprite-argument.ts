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

/** The sprite and the checkpoint that a command line names. @throws HobError `usage` */
export function takeCheckpoint(operands: readonly string[], flag: string | undefined, usage: string): { name: string; id: string } {
  const { name, rest } = takeSpriteName(operands, flag, usage);
  const [id, extra] = rest;
  if (id === undefined) throw new HobError("usage", "no checkpoint named", { hint: usage });
  if (extra !== undefined) throw new HobError("usage", `what is '${extra}'?`, { hint: usage });
  return { name, id };
}
