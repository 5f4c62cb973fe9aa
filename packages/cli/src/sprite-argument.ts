import { HobError } from "@hob/protocol/errors.ts";
import { findSpriteFile } from "./sprite-file.ts";

/**
 * The sprite that a command line names, with what is left of its operands: by -s, else by the first operand, else by the
 * file that `hob use` has written here or above.
 *
 * @param needed operands that the command has besides the name: with no more than these, a sprite of the folder is meant
 * @throws HobError `usage`
 */
export function takeSpriteName(
  operands: readonly string[],
  flag: string | undefined,
  usage: string,
  needed = 0,
): { name: string; rest: string[] } {
  if (flag !== undefined) return { name: flag, rest: [...operands] };
  const [name, ...rest] = operands;
  const found = operands.length <= needed ? findSpriteFile(process.cwd()) : undefined;
  if (found !== undefined) return { name: found.sprite, rest: [...operands] };
  if (name !== undefined) return { name, rest };
  throw new HobError("usage", "no sprite named", { hint: `${usage}, or choose one for this folder: hob use NAME` });
}

/** The sprite and the checkpoint that a command line names. @throws HobError `usage` */
export function takeCheckpoint(operands: readonly string[], flag: string | undefined, usage: string): { name: string; id: string } {
  const { name, rest } = takeSpriteName(operands, flag, usage, 1);
  const [id, extra] = rest;
  if (id === undefined) throw new HobError("usage", "no checkpoint named", { hint: usage });
  if (extra !== undefined) throw new HobError("usage", `what is '${extra}'?`, { hint: usage });
  return { name, id };
}

/**
 * The sprite and the service that a command line names.
 * @param needed operands besides the sprite's name; 0: the name must be there
 * @throws HobError `usage`
 */
export function takeServiceName(
  operands: readonly (string | undefined)[],
  flag: string | undefined,
  usage: string,
  needed = 1,
): { name: string; service: string; rest: string[] } {
  const given = operands.filter((operand) => operand !== undefined);
  const { name, rest } = takeSpriteName(given, flag, usage, needed);
  const [service, ...others] = rest;
  if (service === undefined) throw new HobError("usage", `no service of ${name} named`, { hint: usage });
  return { name, service, rest: others };
}

/** A sprite and the name of a new one. @throws HobError `usage` */
export function takeNames(operands: readonly string[], flag: string | undefined, usage: string): { name: string; newName: string } {
  const { name, rest } = takeSpriteName(operands, flag, usage, 1);
  const [newName, extra] = rest;
  if (newName === undefined) throw new HobError("usage", "no name for the new sprite", { hint: usage });
  if (extra !== undefined) throw new HobError("usage", `what is '${extra}'?`, { hint: usage });
  return { name, newName };
}

/** Takes `NAME@ID` apart; without `@ID` the present state is meant. @throws HobError `usage` */
export function splitVersion(text: string, usage: string): { name: string; id: string | undefined } {
  const at = text.indexOf("@");
  if (at < 0) return { name: text, id: undefined };
  const [name, id] = [text.slice(0, at), text.slice(at + 1)];
  if (name === "" || id === "") throw new HobError("usage", `'${text}' names no sprite with a checkpoint`, { hint: usage });
  return { name, id };
}
