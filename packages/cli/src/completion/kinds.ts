import type { Command, Option } from "commander";
import { pathOf } from "./place.ts";

/** What a word of the command line names. */
export type Kind =
  | "sprite"
  /** NAME or NAME@ID */
  | "version"
  /** NAME, or a place */
  | "sprite or place"
  /** NAME@ID:/PATH */
  | "place"
  | "session"
  | "checkpoint"
  /** also `current` */
  | "state"
  | "service"
  /** separated by commas */
  | "services"
  | "signal"
  | "token"
  /** of this machine */
  | "file"
  /** of this machine, or NAME:PATH */
  | "path";

/** By the name of the operand. */
const OPERANDS: Readonly<Record<string, Kind>> = {
  name: "sprite",
  names: "sprite",
  words: "sprite",
  id: "checkpoint",
  ids: "session",
  from: "checkpoint",
  to: "state",
  place: "place",
  service: "service",
  signal: "signal",
  source: "path",
  destination: "path",
};

/** Operands that are something else in these commands; undefined: a new name, or text. */
const EXCEPTIONS: Readonly<Record<string, Kind | undefined>> = {
  "create name": undefined,
  "attach id": "session",
  "sessions attach id": "session",
  "token revoke id": "token",
  "fork name": "version",
  "checkpoint list name": "sprite or place",
  "services create service": undefined,
  "import source": "file",
};

const OPTIONS: Readonly<Record<string, Kind>> = {
  "--sprite": "sprite",
  "--history": "checkpoint",
  "--needs": "services",
  "--signal": "signal",
  "--home": "file",
  "--file": "file",
  "--tls-cert": "file",
  "--tls-key": "file",
};

/** Values of options that are free text to the command line, but of which these are usual. */
const USUAL_VALUES: Readonly<Record<string, readonly string[]>> = {
  "--device": ["/dev/fuse", "/dev/net/tun"],
  "--request": ["GET", "POST", "PUT", "DELETE"],
};

/** Operands that name the sprite which the others belong to. */
const SPRITES: ReadonlySet<Kind | undefined> = new Set(["sprite", "version", "sprite or place"]);

export function operandKind(command: Command, operand: string): Kind | undefined {
  const key = `${pathOf(command)} ${operand}`;
  return Object.hasOwn(EXCEPTIONS, key) ? EXCEPTIONS[key] : OPERANDS[operand];
}

export function optionKind(command: Command, option: Option): Kind | undefined {
  if (option.long === "--sprite" && pathOf(command) === "fork") return "version";
  return OPTIONS[option.long ?? ""];
}

/** Words that the option takes; undefined when it takes something else. */
export const optionValues = (option: Option): readonly string[] | undefined => option.argChoices ?? USUAL_VALUES[option.long ?? ""];

/** Whether the first operand is the sprite: -s stands in its place. */
export const namesSpriteFirst = (command: Command): boolean => {
  const [first] = command.registeredArguments;
  return first !== undefined && SPRITES.has(operandKind(command, first.name()));
};
